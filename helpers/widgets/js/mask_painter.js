// @ts-check
// An image under a translucent mask, painted with mouse, touch, pen or keys: the controls around it. The mask is an array
// of levels, 0 to 255, that travels as bits, or as bytes where it is soft; all views of one widget share it.
import { element, keepKeys, onResize, widget } from "./dom.js";
import { MaskScreen } from "./mask_screen.js";
import { openMask } from "./mask_store.js";
import { Painter } from "./mask_tools.js";

function render(store, { el, signal }) {
  const painter = new Painter(store, signal, MaskScreen), { screen, groups, status, spoken, help, actions } = painter;
  const root = element("div", { class: "cw mask-painter" }, painter.bar("tools", "size", "soft", "history", "whole", "zoom"),
    screen.mat, help, element("div", { class: "cw-bar mp-bar mp-foot" }, status, spoken, groups.overlay, actions.help));
  el.append(root);
  keepKeys(root, signal, (event) => painter.key(event), (event) => painter.command(event));
  onResize(root, () => screen.layout(), signal);
  store.enter(painter, signal);
}

export default widget(openMask, render);
