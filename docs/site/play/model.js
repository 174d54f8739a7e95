// @ts-check
// What stands where a notebook's widgets have Python: values, and who hears of their changes.

export class Model {
  handlers = [];

  constructor(values) {
    this.values = values;
  }

  get(name) { return this.values[name]; }

  set(name, value) {
    this.values[name] = value;
    for (const [event, handler] of [...this.handlers]) if (event === `change:${name}`) handler();
  }

  on(event, handler) { this.handlers.push([event, handler]); }

  off(event, handler) { this.handlers = this.handlers.filter(([one, other]) => one !== event || other !== handler); }

  save_changes() {}

  send() {}
}
