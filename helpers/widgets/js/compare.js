// Two pictures in one place under a divider. The pictures lie on each other, and the upper one is clipped where the
// divider is. The divider is a slider for the keyboard and for screen readers; a pointer may drag it from anywhere.

const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
const ZOOMS = [1, 2, 3, 4, 6, 8, 12, 16];  // screen pixels a pixel of the largest picture
const NATURAL = 384;  // screen pixels that a small picture is enlarged to, where it fits

function element(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

function render({ model, el, signal }) {
  const listen = (target, type, handler, options = {}) => target.addEventListener(type, handler, { ...options, signal });
  const follow = (name, handler) => {
    model.on(`change:${name}`, handler);
    signal.addEventListener("abort", () => model.off(`change:${name}`, handler));
  };
  const set = (name, value) => { model.set(name, value); model.save_changes(); };
  const titles = model.get("_titles"), sizes = model.get("_sizes");
  const urls = model.get("_pictures").map((bytes) => URL.createObjectURL(new Blob([bytes])));
  signal.addEventListener("abort", () => urls.forEach((url) => URL.revokeObjectURL(url)));
  const [width, height] = sizes.reduce((most, size) => (size[0] > most[0] ? size : most));
  let scale = null;  // null: as large as fits

  const under = element("img", { class: "cm-picture", draggable: "false" });
  const over = element("img", { class: "cm-picture", draggable: "false" });
  const handle = element("div", { class: "cm-handle", tabindex: "0", role: "slider", "aria-orientation": "horizontal",
    "aria-valuemin": "0", "aria-valuemax": "100" }, element("span", { class: "cm-grip", "aria-hidden": "true" }));
  const stage = element("div", { class: "cm-stage", "data-jp-suppress-context-menu": "" }, under, over, handle);
  const mat = element("div", { class: "cm-mat" }, stage);

  const chooser = (side) => {
    if (titles.length < 3) return element("span", { class: "cm-title" });
    const node = element("select", { class: "cm-choice", "aria-label": side === "left" ? "Left picture" : "Right picture" });
    titles.forEach((title, number) => node.append(element("option", { value: number }, title)));
    listen(node, "change", () => set(side, Number(node.value)));
    return node;
  };
  const button = (text, label, action) => {
    const node = element("button", { type: "button", class: "cm-button", "aria-label": label, title: label }, text);
    listen(node, "click", action);
    return node;
  };
  const names = { left: chooser("left"), right: chooser("right") };
  const swap = button("⇄", "Swap left and right", () => {
    const [left, right] = [model.get("left"), model.get("right")];
    model.set({ left: right, right: left });
    model.save_changes();
  });
  const smaller = button("−", "Zoom out", () => zoom(-1));
  const larger = button("+", "Zoom in", () => zoom(1));
  const fitted = button("", "Fit the picture", () => { scale = null; layout(); });
  fitted.classList.add("cm-text");
  const root = element("div", { class: "compare" }, mat,
    element("div", { class: "cm-bar", role: "toolbar", "aria-label": "Compare" },
      names.left, swap, names.right, element("span", { class: "cm-space" }), smaller, fitted, larger));
  el.append(root);

  // -- what is shown
  function pictures() {
    for (const [side, image] of [["left", under], ["right", over]]) {
      const number = model.get(side);
      if (image.dataset.number !== String(number)) {
        image.src = urls[number];
        image.alt = titles[number];
        image.dataset.number = number;
      }
      if (names[side].tagName === "SELECT") names[side].value = number;
      else names[side].textContent = titles[number];
    }
    handle.setAttribute("aria-label", `Divider between ${under.alt} and ${over.alt}`);
    divide();
  }

  function divide() {
    const percent = 100 * model.get("position"), whole = Math.round(percent);
    over.style.clipPath = `inset(0 0 0 ${percent}%)`;
    handle.style.left = `${percent}%`;
    handle.setAttribute("aria-valuenow", whole);
    handle.setAttribute("aria-valuetext", `${whole} % ${under.alt}, ${100 - whole} % ${over.alt}`);
  }

  const ratio = () => window.devicePixelRatio || 1;
  function fitting() {  // screen pixels a pixel, at most as much as there is room
    const room = Math.max(64, mat.clientWidth - 24), tall = Math.max(160, Math.min(640, 0.7 * window.innerHeight));
    const wanted = Math.max(1, Math.floor((NATURAL * ratio()) / Math.max(width, height)));
    return Math.min(wanted, (room * ratio()) / width, (tall * ratio()) / height);
  }

  function layout() {
    const now = scale ?? fitting();
    stage.style.width = `${(width * now) / ratio()}px`;
    stage.style.height = `${(height * now) / ratio()}px`;
    root.classList.toggle("cm-pixels", now >= 2);
    fitted.textContent = `${Math.round(100 * now)} %`;
    fitted.setAttribute("aria-label", `Zoom ${Math.round(100 * now)} %. Fit the picture`);
    smaller.setAttribute("aria-disabled", String(now <= Math.min(1, fitting())));
    larger.setAttribute("aria-disabled", String(now >= ZOOMS.at(-1)));
  }

  function zoom(direction) {
    const now = scale ?? fitting(), steps = [...new Set([Math.min(1, fitting()), ...ZOOMS])];
    const next = direction > 0 ? steps.find((step) => step > now + 0.01) : steps.findLast((step) => step < now - 0.01);
    if (next === undefined) return;
    const middle = [mat.scrollLeft + mat.clientWidth / 2, mat.scrollTop + mat.clientHeight / 2];
    scale = next;
    layout();
    mat.scrollLeft = (middle[0] * next) / now - mat.clientWidth / 2;  // what was in the middle stays there
    mat.scrollTop = (middle[1] * next) / now - mat.clientHeight / 2;
  }

  // -- the divider
  let told = null;
  const move = (value, last = true) => {
    model.set("position", clamp(Math.round(value * 1000) / 1000, 0, 1));
    clearTimeout(told);
    if (last) model.save_changes();
    else told = setTimeout(() => model.save_changes(), 100);  // while it is dragged, Python hears of it now and then
  };
  const to = (event) => {
    const box = stage.getBoundingClientRect();
    return (event.clientX - box.left) / box.width;
  };
  listen(stage, "pointerdown", (event) => {
    if (event.button !== 0) return;
    event.preventDefault();
    stage.setPointerCapture(event.pointerId);
    handle.focus({ preventScroll: true });
    move(to(event), false);
  });
  listen(stage, "pointermove", (event) => { if (stage.hasPointerCapture(event.pointerId)) move(to(event), false); });
  for (const type of ["pointerup", "pointercancel"]) listen(stage, type, () => { if (told) move(model.get("position")); });
  listen(handle, "keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const now = model.get("position"), step = event.shiftKey ? 0.1 : 0.01;
    const goals = { ArrowLeft: now - step, ArrowDown: now - step, ArrowRight: now + step, ArrowUp: now + step,
      PageDown: now - 0.1, PageUp: now + 0.1, Home: 0, End: 1 };
    if (event.key in goals) move(goals[event.key]);
    else if (event.key === "+" || event.key === "=") zoom(1);
    else if (event.key === "-") zoom(-1);
    else if (event.key === "0") fitted.click();
    else return;
    event.preventDefault();
  });

  for (const side of ["left", "right"]) follow(side, pictures);
  follow("position", divide);
  const observer = new ResizeObserver(() => { if (scale === null) layout(); });
  observer.observe(mat);
  signal.addEventListener("abort", () => observer.disconnect());
  pictures();
  layout();
}

export default {
  render({ model, el }) {
    const life = new AbortController();
    render({ model, el, signal: life.signal });
    return () => life.abort();
  },
};
