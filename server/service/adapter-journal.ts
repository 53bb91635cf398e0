/**
 * Who watches adapters is told every change of state, from a snapshot on or from where an earlier watch ended. A slow
 * watcher costs one note for each name at most: what changed twice meanwhile is told once, as it is then. One that lags behind
 * more deleted names than are remembered is ended.
 */
import { randomUUID } from 'node:crypto';
import { AppError } from '../errors.js';
import type { AdapterInfo, AdapterWatchEvent, AliasInfo } from './types.js';

/** What a name is. */
export type Named = { readonly adapter: AdapterInfo } | { readonly alias: AliasInfo };

/** What the names are at any moment. */
export interface NameSource {
  /** True for an adapter or alias; asked at every change, so it should take no time. */
  has(model: string, name: string): boolean;
  /** What is told of a name; undefined = it is gone. */
  info(model: string, name: string): Named | undefined;
}

/** Deleted names that are remembered for those who come back. */
const MAX_DELETED = 10_000;
/** Deleted names that may wait for a watcher when others are forgotten: each costs memory, and there is no end of them. */
const MAX_WAITING = MAX_DELETED / 2;

/** A watcher: names that it has not been told of yet, in the order of their last change. */
interface Watcher {
  readonly model: string | undefined;
  readonly waiting: Map<string, number>;
  /** Why it is ended. */
  end: AppError | undefined;
  wake(): void;
}

const keyOf = (model: string, name: string): string => JSON.stringify([model, name]);

/** Changes of the adapters and aliases of all models. */
export class AdapterJournal {
  /** Tokens of another process are worth nothing here. */
  private readonly epoch = randomUUID().slice(0, 8);
  private readonly names: NameSource;
  private sequence = 0;
  /** Key of a name -> its last change; the oldest first. */
  private readonly last = new Map<string, number>();
  private deleted = 0;
  /** Changes up to here may have been forgotten. */
  private horizon = 0;
  private readonly watchers = new Set<Watcher>();
  private end: AppError | undefined;

  constructor(names: NameSource) {
    this.names = names;
  }

  /** How many watch. */
  get watching(): number {
    return this.watchers.size;
  }

  /** Notes that a name came, changed or went. */
  changed(model: string, name: string): void {
    const key = keyOf(model, name);
    this.sequence += 1;
    this.last.delete(key);
    this.last.set(key, this.sequence);
    if (!this.names.has(model, name)) this.forgetDeleted();
    for (const watcher of this.watchers) {
      if (watcher.model !== undefined && watcher.model !== model) continue;
      watcher.waiting.delete(key);
      watcher.waiting.set(key, this.sequence);
      watcher.wake();
    }
  }

  /**
   * Every adapter and alias as it is, a `synced` event, then every change; with a token only what changed since. Ends with
   * the error of {@link close}, or of `signal`; with SLOW_CONSUMER; quietly when the reader leaves.
   * @param names all registered names, for the snapshot
   * @throws AppError INVALID_REQUEST for a token that no server gave out
   */
  async *watch(
    model: string | undefined,
    resumeToken: string,
    names: () => Iterable<{ readonly model: string; readonly name: string }>,
    signal: AbortSignal,
  ): AsyncGenerator<AdapterWatchEvent, void, undefined> {
    const after = this.positionOf(resumeToken);
    let wake = (): void => {};
    const watcher: Watcher = { model, waiting: new Map(), end: undefined, wake: () => wake() };
    const onAbort = (): void => wake();
    signal.addEventListener('abort', onAbort);
    this.watchers.add(watcher);
    try {
      const snapshot = after === undefined;
      if (snapshot) {
        for (const one of names()) watcher.waiting.set(keyOf(one.model, one.name), this.sequence);
      } else {
        for (const [key, at] of this.last) {
          if (at > after && (model === undefined || (JSON.parse(key) as string[])[0] === model)) {
            watcher.waiting.set(key, at);
          }
        }
      }
      // Of a snapshot, nothing may be resumed from before its end: earlier tokens are empty.
      const until = this.sequence;
      let synced = false;
      while (!signal.aborted && this.end === undefined && watcher.end === undefined) {
        const next = watcher.waiting.entries().next().value;
        if (!synced && (next === undefined || next[1] > until)) {
          synced = true;
          yield { type: 'synced', snapshot, resumeToken: this.token(until) };
          continue;
        }
        if (next === undefined) {
          await new Promise<void>((resolve) => {
            wake = resolve;
            if (signal.aborted || this.end || watcher.end || watcher.waiting.size > 0) resolve();
          });
          continue;
        }
        const [key, at] = next;
        watcher.waiting.delete(key);
        const [inModel, name] = JSON.parse(key) as [string, string];
        const named = this.names.info(inModel, name);
        const token = synced || !snapshot ? this.token(at) : '';
        if (named !== undefined) {
          const event =
            'adapter' in named ? ({ type: 'changed', ...named } as const) : ({ type: 'alias', ...named } as const);
          yield { ...event, resumeToken: token };
        } else if (synced || !snapshot) yield { type: 'deleted', model: inModel, name, resumeToken: token };
      }
      const end = this.end ?? watcher.end;
      if (end !== undefined) throw end;
      throw signal.reason instanceof AppError ? signal.reason : new AppError('CANCELED', 'the watch was canceled');
    } finally {
      this.watchers.delete(watcher);
      signal.removeEventListener('abort', onAbort);
    }
  }

  /** Ends all watches, and those to come, with an error. */
  close(error: AppError): void {
    this.end = error;
    for (const watcher of this.watchers) watcher.wake();
  }

  private token(sequence: number): string {
    return `${this.epoch}-${sequence}`;
  }

  /** Undefined = a snapshot is needed: no token, another process's, or one from before what is remembered. */
  private positionOf(token: string): number | undefined {
    if (token === '') return undefined;
    const match = /^([0-9a-f]{8})-(\d{1,15})$/.exec(token);
    if (match === null) {
      const description = 'is not one that this server gave out';
      throw new AppError('INVALID_REQUEST', `resume_token ${description}`, {
        violations: [{ field: 'resume_token', description }],
      });
    }
    const position = Number(match[2]);
    return match[1] === this.epoch && position >= this.horizon && position <= this.sequence ? position : undefined;
  }

  private forgetDeleted(): void {
    this.deleted += 1;
    if (this.deleted <= MAX_DELETED) return;
    this.deleted = 0;
    for (const [key, at] of this.last) {
      if (this.isThere(key)) continue;
      this.last.delete(key);
      this.horizon = Math.max(this.horizon, at);
    }
    for (const watcher of this.watchers) this.endIfBehind(watcher);
  }

  private isThere(key: string): boolean {
    const [model, name] = JSON.parse(key) as [string, string];
    return this.names.has(model, name);
  }

  private endIfBehind(watcher: Watcher): void {
    let gone = 0;
    for (const key of watcher.waiting.keys()) {
      if (!this.isThere(key)) gone += 1;
    }
    if (gone <= MAX_WAITING) return;
    watcher.end = new AppError(
      'SLOW_CONSUMER',
      `${gone} deletions waited to be read, more than are kept for a watch; watch again, and read faster`,
    );
    watcher.waiting.clear();
    watcher.wake();
  }
}
