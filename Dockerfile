# The course in one image, without the tools for developers. README, "A container", says how to build and start it.
#   TORCH_INDEX   where pip takes torch from: its CPU build; empty (--build-arg TORCH_INDEX=) for the CUDA build
#   EXTRAS        of pyproject.toml; runtime,class for a class on Kubernetes
FROM python:3.12-slim-bookworm
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ARG EXTRAS=runtime
RUN apt-get update && apt-get install -y --no-install-recommends make wget && rm -rf /var/lib/apt/lists/*
RUN useradd --uid 1000 --create-home --home-dir /learner learner && install -d -o learner /course /course/my-notebooks
USER learner
WORKDIR /course
ENV PIP_NO_CACHE_DIR=1
COPY --chown=learner Makefile pyproject.toml constraints.txt README.md LICENSE ./
COPY --chown=learner helpers helpers
RUN make setup EXTRAS=$EXTRAS TORCH_INDEX=$TORCH_INDEX
COPY --chown=learner classroom classroom
COPY --chown=learner data data
COPY --chown=learner notebooks notebooks
ENV PATH=/course/.venv/bin:$PATH PYTHONPATH=/course
EXPOSE 8888
CMD ["make", "lab", "IP=0.0.0.0", "ARGS=--no-browser"]
