/** Looks for changes when woken and from time to time, and hands them on one call at a time. */
import type { Reachability } from './reachability.js';
import type { FollowedChange } from './types.js';

/** What was found after a revision. */
export interface Look {
  /** Everything up to here was found. */
  readonly revision: number;
  readonly changes: readonly FollowedChange[];
}

/** One follower of a store. */
export class Follower {
  private revision: number;
  private readonly look: (after: number) => Promise<Look>;
  private readonly onChange: (changes: readonly FollowedChange[]) => Promise<void> | void;
  private readonly reachability: Reachability;
  private readonly timer: NodeJS.Timeout | undefined;
  private running: Promise<void> | undefined;
  private again = false;
  private stopped = false;

  constructor(
    revision: number,
    look: (after: number) => Promise<Look>,
    onChange: (changes: readonly FollowedChange[]) => Promise<void> | void,
    options: { readonly pollMs: number; readonly reachability: Reachability },
  ) {
    this.revision = revision;
    this.look = look;
    this.onChange = onChange;
    this.reachability = options.reachability;
    if (options.pollMs > 0) {
      this.timer = setInterval(() => this.wake(), options.pollMs);
      this.timer.unref();
    }
  }

  /** Looks now, or once more after the look that runs. */
  wake(): void {
    if (this.stopped) return;
    if (this.running !== undefined) {
      this.again = true;
      return;
    }
    this.running = this.run()
      .then(
        () => this.reachability.works(this),
        (error: unknown) => this.reachability.failed(this, error),
      )
      .finally(() => {
        this.running = undefined;
        if (this.again) {
          this.again = false;
          this.wake();
        }
      });
  }

  async stop(): Promise<void> {
    this.stopped = true;
    clearInterval(this.timer);
    await this.running;
    this.reachability.left(this);
  }

  private async run(): Promise<void> {
    while (!this.stopped) {
      const { revision, changes } = await this.look(this.revision);
      if (changes.length === 0 || this.stopped) return;
      await this.onChange(changes);
      this.revision = revision;
    }
  }
}
