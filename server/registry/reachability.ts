/** Whether the database of a registry can be used, as far as those say who use it: an outage is told once, not by each. */

/** What whoever opens a registry is told of it. */
export interface RegistryNews {
  /** It cannot be reached, or a connection was lost; whoever needs it tries again. */
  lost(error: unknown): void;
  /** What was lost is there again. */
  back(): void;
  /** Something was found and put right, or could not be found any more, when it was opened. */
  remark(what: string): void;
}

/** Outages of one registry. */
export class Reachability {
  private readonly news: Pick<RegistryNews, 'lost' | 'back'>;
  /** Who failed and has not succeeded since. */
  private readonly failing = new Set<unknown>();

  constructor(news: Pick<RegistryNews, 'lost' | 'back'>) {
    this.news = news;
  }

  /** @param who what {@link works} or {@link left} is called with later; a connection that nobody used, until anyone works */
  failed(who: object | 'idle', error: unknown): void {
    const first = this.failing.size === 0;
    this.failing.add(who);
    if (first) this.news.lost(error);
  }

  /** The outage is over when everyone who failed has succeeded. */
  works(who: object): void {
    if (this.failing.size === 0) return;
    this.failing.delete(who);
    this.failing.delete('idle');
    if (this.failing.size === 0) this.news.back();
  }

  /** Nothing more is to be expected of `who`. */
  left(who: object): void {
    this.failing.delete(who);
  }
}
