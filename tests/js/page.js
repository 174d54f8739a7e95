// @ts-check
// Stand-ins for what a page gives to the widgets: a model without Python, and elements that nobody sees.

/** `sent` has the custom messages, each with its buffers. */
export function newModel(traits = {}) {
  const values = { ...traits };
  let handlers = [];
  const tell = (event, ...more) => handlers.filter(([one]) => one === event).forEach(([, handler]) => handler(...more));
  return {
    saved: 0,
    sent: [],
    get: (name) => values[name],
    set(name, value) {
      values[name] = value;
      tell(`change:${name}`);
    },
    save_changes() { this.saved++; },
    send(content, _, buffers) { this.sent.push(buffers ? { ...content, buffers } : content); },
    /** A custom message of Python. */
    hear: (content, buffers) => tell("msg:custom", content, buffers),
    on(event, handler) { handlers.push([event, handler]); },
    off(event, handler) {
      handlers = handlers.filter(([one, other]) => one !== event || other !== handler);
    },
    count: () => handlers.length,
  };
}

export class Element extends EventTarget {
  dataset = {};
  style = {};
  value = "";
  textContent = "";
  setAttribute(name, value) { this[name] = value; }
  append() {}
  fire(type) { this.dispatchEvent(new Event(type)); }
}
