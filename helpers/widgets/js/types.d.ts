// What travels between Python, the modules and the screen. Read by `tsc` alone.

/** The widget's state, as anywidget gives it: `get` and `set` take the names of traits. */
interface Model {
  get(trait: string): any;
  set(trait: string, value: any): void;
  save_changes(): void;
  send(content: object | null, callbacks?: undefined, buffers?: ArrayBuffer[]): void;
  on(event: string, handler: (...args: any[]) => void): void;
  off(event: string, handler: (...args: any[]) => void): void;
}

/** What anywidget calls `render` with; the view is gone when `signal` aborts. */
type Context = { model: Model; el: HTMLElement; signal: AbortSignal };
type Action = () => void;
type Attributes = Record<string, any>;
type Bytes = Uint8Array<ArrayBuffer>;
type Data = DataView<ArrayBuffer>;

// ---- The mask painter

type MaskStore = import("./mask_store.js").MaskStore;
type Viewport = import("./viewport.js").Viewport;
type Point = { x: number; y: number };
type Box = { x0: number; y0: number; x1: number; y1: number };
/** `data` holds 0 and 1, row by row. */
type Mask = { width: number; height: number; data: Bytes };
type MaskView = { draw(box?: Box | null): void; refresh(): void; drop(): void };
/** From pen down to pen up. `margin` widens a shape; `held`: it ends when the space bar is let go. */
type Gesture = { tool: string; value: number; keys: boolean; held: boolean; points: Point[]; margin: number };

// ---- The explorer

type ExplorerStore = import("./explorer_store.js").ExplorerStore;
/** One argument of the call, as `Control.sent` in Python describes it. */
type Control = {
  name: string; label: string; kind: string; help: string; group: string; low: number; high: number; step: number;
  least: number; most: number | null; whole: boolean; optional: boolean; choices: string[]; labels: string[];
};
type Row = { row: HTMLElement; hint?: HTMLElement; refresh(value: any): void };
/** Hears of every edit; moving: the hand is not done yet. */
type Change = (value: any, moving: boolean) => void;
type Entry = { number: number; text: string; url: string };
type Step = { step: number; steps: number | null; inset: boolean };
type State = { phase: string; draft: boolean; quick: boolean; text: string; details: string; shown: number | null };
type Builder = (control: Control, change: Change, view: { store: ExplorerStore; signal: AbortSignal }) => Row;
