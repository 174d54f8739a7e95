// @ts-check
// A JupyterLab extension, as JupyterLab loads one that is already built: it gives the images among a notebook's outputs
// an alternative text, which JupyterLab's own renderer does not. The text is the section that the image stands in, and
// what the output's metadata calls it ("alt", as nbconvert reads it) or else the last paragraph before it.
(() => {
  const NAME = "inpainting-course-alt-text";  // this folder's name, too
  const LONGEST = 240;  // characters, as on the course's pages
  const PAUSE = 300;  // milliseconds without a change

  /** A Markdown cell's own text: without the links to its headings. */
  function textOf(node) {
    const copy = node.cloneNode(true);
    copy.querySelectorAll(".jp-InternalAnchorLink").forEach((link) => link.remove());
    return copy.textContent.replace(/\s+/g, " ").trim();
  }

  /** The heading above a cell's output, and the last paragraph before it. */
  function section(output) {
    let said = "";
    for (let cell = output.closest(".jp-Cell")?.previousElementSibling; cell; cell = cell.previousElementSibling) {
      if (!cell.matches(".jp-MarkdownCell")) continue;
      const parts = [...cell.querySelectorAll(".jp-RenderedMarkdown > :is(h1, h2, h3, h4, h5, h6, p)")];
      said ||= textOf(parts.findLast(({ tagName }) => tagName === "P") ?? document.createElement("p"));
      const heading = parts.findLast(({ tagName }) => tagName !== "P");
      if (heading) return [textOf(heading), said];
    }
    return ["", said];
  }

  function describe(image) {
    const [heading, said] = section(image), told = image.dataset.told || said;
    const text = [heading, told].filter(Boolean).join(": ") || "The result of this cell";
    image.alt = text.length > LONGEST ? `${text.slice(0, LONGEST).replace(/ \S*$/, "")} …` : text;
  }

  const watched = new WeakSet();

  /** Describes a notebook's images whenever it has changed: texts are rendered later than images, and edited. */
  function watch(notebook) {
    if (!notebook || watched.has(notebook)) return;
    watched.add(notebook);
    let timer = 0;
    new MutationObserver(() => {
      clearTimeout(timer);
      timer = window.setTimeout(() => notebook.querySelectorAll("img[data-told]").forEach(describe), PAUSE);
    }).observe(notebook, { childList: true, subtree: true });
  }

  /**
   * JupyterLab's renderer of images, with that text.
   * @param {Record<string, any>} rendermime JupyterLab's package
   */
  const renderer = (rendermime) => {
    const RenderedImage = /** @type {new (options: any) => any} */ (rendermime.RenderedImage);
    class DescribedImage extends RenderedImage {
      async render(model) {
        await super.render(model);
        const image = this.node.querySelector("img");
        image.dataset.told = model.metadata[this.mimeType]?.alt ?? "";
        describe(image);
      }

      onAfterAttach() {
        const image = this.node.querySelector("img");
        if (image) describe(image);
        watch(this.node.closest(".jp-Notebook"));
      }
    }
    return { ...rendermime.imageRendererFactory, createRenderer: (options) => new DescribedImage(options) };
  };

  let shared;  // JupyterLab's packages: name -> version -> { get }
  const container = {
    init: (scope) => { shared = scope; },
    get: async () => {
      const [rendermime] = Object.values(shared["@jupyterlab/rendermime"]), rendererFactory = renderer((await rendermime.get())());
      return () => ({ __esModule: true, default: { id: `${NAME}:images`, rendererFactory, dataType: "string" } });
    },
  };
  const extensions = /** @type {any} */ (globalThis)._JUPYTERLAB ??= {};
  extensions[NAME] = container;
})();
