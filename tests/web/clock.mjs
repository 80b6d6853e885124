// Time that passes when a test says so.

export const settle = async () => { for (let turn = 0; turn < 40; turn += 1) await null; };

export class Clock {
  now = 0;
  pending = new Map();
  #serial = 0;
  setTimeout = (action, ms) => {
    this.#serial += 1;
    this.pending.set(this.#serial, { at: this.now + ms / 1000, action });
    return this.#serial;
  };
  clearTimeout = (timer) => this.pending.delete(timer);
  async pass(seconds) {
    const end = this.now + seconds;
    await settle();
    for (;;) {
      const due = [...this.pending].filter(([, { at }]) => at <= end).sort((a, b) => a[1].at - b[1].at)[0];
      if (due === undefined) break;
      this.pending.delete(due[0]);
      this.now = due[1].at;
      due[1].action();
      await settle();
    }
    this.now = end;
  }
}
