// @ts-check
// torch's random numbers: the same seed draws here what torch.Generator("cpu") and torch.randn draw, to 1e-6.

const N = 624, M = 397;

/** A Mersenne Twister (Matsumoto and Nishimura, 1998). */
export class Generator {
  state = new Uint32Array(N);
  next = N;

  /** seed: a whole number or a BigInt; its lower 32 bits count, as in torch. */
  constructor(seed) {
    this.state[0] = Number(BigInt.asUintN(32, BigInt(seed)));
    for (let i = 1; i < N; i++) {
      const before = this.state[i - 1] ^ (this.state[i - 1] >>> 30);
      this.state[i] = Math.imul(1812433253, before) + i;
    }
  }

  twist() {
    const { state } = this;
    for (let i = 0; i < N; i++) {
      const mixed = (state[i] & 0x80000000) | (state[(i + 1) % N] & 0x7fffffff);
      state[i] = state[(i + M) % N] ^ (mixed >>> 1) ^ (mixed & 1 ? 0x9908b0df : 0);
    }
    this.next = 0;
  }

  /** 32 random bits. */
  bits() {
    if (this.next === N) this.twist();
    let y = this.state[this.next++];
    y ^= y >>> 11;
    y ^= (y << 7) & 0x9d2c5680;
    y ^= (y << 15) & 0xefc60000;
    return (y ^ (y >>> 18)) >>> 0;
  }

  uniform() { return (this.bits() & 0xffffff) / 0x1000000; }

  /** `size` normal numbers, 16 or more: Box-Muller in blocks of 16, and the last 16 anew where some are left over. */
  randn(size) {
    const drawn = Float32Array.from({ length: size }, () => this.uniform());
    for (let start = 0; start + 16 <= size; start += 16) normal(drawn.subarray(start, start + 16));
    if (size % 16) {
      const last = drawn.subarray(size - 16);
      for (let i = 0; i < 16; i++) last[i] = this.uniform();
      normal(last);
    }
    return drawn;
  }
}

/** Makes normal numbers of 16 uniform ones, in place. */
function normal(block) {
  for (let i = 0; i < 8; i++) {
    const radius = Math.sqrt(-2 * Math.log(1 - block[i])), angle = Math.fround(Math.fround(2 * Math.PI) * block[i + 8]);
    block[i] = radius * Math.cos(angle);
    block[i + 8] = radius * Math.sin(angle);
  }
}
