"""Loading pipelines and what surrounds them: switching tasks, hand-offs, schedulers, prompt weighting, control
images, previews.

It imports `images` and what lies below; everything above may import it.
"""
