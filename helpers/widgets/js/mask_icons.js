// @ts-check
// The painter's buttons: drawings on 20 x 20 units.
import { button, svg } from "./dom.js";

const ICONS = {
  brush: '<path d="M16.8 3.2c-3 1.4-6.6 4.7-8.4 7.4l1 1c2.7-1.8 6-5.4 7.4-8.4z"/><path d="M7.6 11.4c-1.8 0-2.6 1.2-2.8 2.5-.1 1-.7 1.8-1.8 2.1 2.6 1.3 6.3.7 6.3-2.4"/>',
  eraser: '<path d="M3.3 12.2l7.7-7.7a1.4 1.4 0 0 1 2 0l2.9 2.9a1.4 1.4 0 0 1 0 2l-6.6 6.6H6.6l-3.3-3.3a.4.4 0 0 1 0-.5z"/><path d="M7.2 8.3l4.9 4.9M9 16h8"/>',
  rectangle: '<rect x="3.5" y="5" width="13" height="10" rx=".8"/>',
  ellipse: '<ellipse cx="10" cy="10" rx="7" ry="5.5"/>',
  lasso: '<path d="M6.3 13.3C4.3 12.5 3 11 3 9.2 3 6.3 6.1 4 10 4s7 2.3 7 5.2-3.1 5.2-7 5.2c-.9 0-1.7-.1-2.5-.3"/><circle cx="6.6" cy="13.9" r="1.4"/><path d="M6.2 15.3c.2 1-.2 1.7-1 2.2"/>',
  fill: '<path d="M9.3 3.2l6.3 6.3-5.5 5.5a1.4 1.4 0 0 1-2 0l-4.3-4.3a1.4 1.4 0 0 1 0-2L9.3 3.2z"/><path d="M3.5 9.5h12"/><path d="M16.6 12.2c.9 1.3 1.3 2 1.3 2.7a1.3 1.3 0 0 1-2.6 0c0-.7.4-1.4 1.3-2.7z"/>',
  select: '<path d="M4 16l7.5-7.5"/><path d="M13.5 3v3M13.5 9v2.5M9.5 6.8H12M15.2 6.8h2.6M10.8 4l1.2 1.2M15 8.3l1.3 1.3M16.3 4L15 5.2"/>',
  hand: '<path d="M10 2.5v15M2.5 10h15"/><path d="M8 4.5l2-2 2 2M8 15.5l2 2 2-2M4.5 8l-2 2 2 2M15.5 8l2 2-2 2"/>',
  undo: '<path d="M7 4L3.5 7.5 7 11"/><path d="M3.5 7.5h8a4.5 4.5 0 0 1 0 9H8"/>',
  redo: '<path d="M13 4l3.5 3.5L13 11"/><path d="M16.5 7.5h-8a4.5 4.5 0 0 0 0 9H12"/>',
  clear: '<path d="M3.5 5.5h13M8 5.5V3.5h4v2M5.2 5.5l.8 11h8l.8-11M8.5 8.5v5M11.5 8.5v5"/>',
  invert: '<circle cx="10" cy="10" r="6.5"/><path d="M10 3.5a6.5 6.5 0 0 1 0 13z" fill="currentColor"/>',
  grow: '<circle cx="10" cy="10" r="3"/><path d="M10 4.8V2.5M10 17.5v-2.3M4.8 10H2.5M17.5 10h-2.3"/><path d="M8.8 3.6L10 2.4l1.2 1.2M8.8 16.4l1.2 1.2 1.2-1.2M3.6 8.8L2.4 10l1.2 1.2M16.4 8.8l1.2 1.2-1.2 1.2"/>',
  shrink: '<circle cx="10" cy="10" r="2.5"/><path d="M10 5.8V2M10 18v-3.8M5.8 10H2M18 10h-3.8"/><path d="M8.8 4.6L10 5.8l1.2-1.2M8.8 15.4l1.2-1.2 1.2 1.2M4.6 8.8L5.8 10l-1.2 1.2M15.4 8.8L14.2 10l1.2 1.2"/>',
  out: '<path d="M5 10h10"/>',
  in: '<path d="M5 10h10M10 5v10"/>',
  help: '<path d="M7.3 7.4c.2-1.6 1.3-2.4 2.8-2.4 1.6 0 2.7 1 2.7 2.3 0 2.1-2.7 2.2-2.7 4.5"/><path d="M10.1 14.9v.1"/>',
};

export function iconButton(icon, label, key, action) {
  const node = button("cw-quiet", action, { "aria-label": label, title: `${label} (${key})` });
  node.innerHTML = svg(ICONS[icon]);
  return node;
}
