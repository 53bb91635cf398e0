/** Collects everything that is wrong with an adapter, so that one refusal tells of all of it. */
import { AppError } from '../errors.js';

/**
 * Most faults that one message spells out; the rest are counted. An adapter of another model has hundreds, all alike, and
 * every request that names it is told: enough to see what is wrong, and few enough for a trailer of gRPC.
 */
const MAX_LISTED = 8;

/** What is wrong with an adapter: faults of the files, and features that are not supported. */
export class Faults {
  private readonly invalid: string[] = [];
  private readonly unsupported: string[] = [];
  private cause: string | undefined;

  /** Notes a fault: the adapter is broken or does not fit. */
  add(what: string): void {
    this.invalid.push(what);
  }

  /** Notes a feature that would have to be applied and is not. */
  addUnsupported(what: string): void {
    this.unsupported.push(what);
  }

  /** What may be behind all that does not fit; told before it, and nothing by itself. */
  explain(cause: string | undefined): void {
    this.cause = cause;
  }

  /** Number of faults noted. */
  get count(): number {
    return this.invalid.length + this.unsupported.length;
  }

  /** Everything noted: what may be behind it, unsupported features, then what is broken or does not fit. */
  get all(): readonly string[] {
    return [...this.causes, ...this.noted];
  }

  private get causes(): readonly string[] {
    return this.cause === undefined || this.invalid.length === 0 ? [] : [this.cause];
  }

  private get noted(): readonly string[] {
    return [...this.unsupported, ...this.invalid];
  }

  /**
   * Throws if anything was noted: ADAPTER_UNSUPPORTED if all of it is about unsupported features, else
   * ADAPTER_INVALID; the message lists the first ones.
   */
  check(): void {
    if (this.count === 0) return;
    const { count, noted } = this;
    const rest = count > MAX_LISTED ? `; and ${count - MAX_LISTED} more, which a validation lists` : '';
    const reason = this.invalid.length > 0 ? 'ADAPTER_INVALID' : 'ADAPTER_UNSUPPORTED';
    const head = count === 1 ? '' : `${count} faults: `;
    const [first, ...others] = noted.slice(0, MAX_LISTED);
    const listed = [...this.causes, `${head}${first}`, ...others].join('; ');
    throw new AppError(reason, `${listed}${rest}`, { metadata: { faults: String(count) } });
  }
}
