/**
 * What was really tested: model types and adapter features whose logits agreed with PyTorch in this run. The sum is checked
 * in as `test/fixtures/support.json`, from which the table in docs/compatibility.md is made; a test file fails when its part
 * there is not what it ran. `LORAMUX_RECORD_SUPPORT=1 npm test -- FILE` writes its part anew.
 */
import assert from 'node:assert/strict';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { after } from 'node:test';
import { fileURLToPath } from 'node:url';

/**
 * By test file, then by model type: how many adapters with exactly these features, joined by `+` (`base` = the model alone),
 * gave PyTorch's logits.
 */
export type Support = Record<string, Record<string, Record<string, number>>>;

const FILE = fileURLToPath(new URL('./fixtures/support.json', import.meta.url));

export class SupportRecord {
  readonly #counts = new Map<string, Map<string, number>>();
  readonly #part: string;
  #failed = false;

  /** @param part name of the test file; checked when its tests are over */
  constructor(part: string) {
    this.#part = part;
    // Some of its tests only: nothing to compare with.
    const whole = !process.execArgv.concat(process.argv).some((flag) => flag.startsWith('--test-name-pattern'));
    after(() => {
      if (whole && !this.#failed) this.#settle();
    });
  }

  /** Runs a comparison with PyTorch; when it agrees, `features` of `modelType` count as seen. */
  async note(modelType: string, features: readonly string[], compare: () => Promise<void>): Promise<void> {
    try {
      await compare();
    } catch (error) {
      this.#failed = true;
      throw error;
    }
    const known = this.#counts.get(modelType) ?? new Map<string, number>();
    this.#counts.set(modelType, known);
    const key = features.join('+');
    known.set(key, (known.get(key) ?? 0) + 1);
  }

  #settle(): void {
    const sorted = <T>(map: ReadonlyMap<string, T>) => [...map].sort(([a], [b]) => (a < b ? -1 : 1));
    const seen = Object.fromEntries(
      sorted(this.#counts).map(([type, features]) => [type, Object.fromEntries(sorted(features))]),
    );
    const all = existsSync(FILE) ? (JSON.parse(readFileSync(FILE, 'utf8')) as Support) : {};
    if (process.env.LORAMUX_RECORD_SUPPORT !== undefined) {
      const next = Object.fromEntries(sorted(new Map(Object.entries({ ...all, [this.#part]: seen }))));
      writeFileSync(FILE, `${JSON.stringify(next, null, 2)}\n`);
      return;
    }
    assert.deepEqual(seen, all[this.#part], `${FILE} does not say what ran; see test/support.ts`);
  }
}
