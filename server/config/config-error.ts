/** A start-up fault that the user can mend: bad flag, bad value, missing or broken model. */

/** Thrown by everything in `server/config`; `message` is one line, fit for stderr as it is. */
export class ConfigError extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(oneLine(message), options);
    this.name = 'ConfigError';
  }
}

/** There is nothing at the place that was named. */
export class NothingThere extends ConfigError {}

/** What a file system refuses (a link that goes round, no permission) is a fault of the path that was named. */
export function asConfigError(error: unknown): unknown {
  if (!(error instanceof Error) || typeof (error as NodeJS.ErrnoException).syscall !== 'string') return error;
  return new ConfigError(error.message, { cause: error });
}

/** Folds a text that may span lines into one, so that a fault never prints more than one line. */
export function oneLine(text: string): string {
  return text.replace(/\s*[\r\n]+\s*/g, ' ').trim();
}
