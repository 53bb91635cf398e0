/** Kinds of values that keys of a `serving.properties` have: what is right, and how it is read. */

/** A kind of value. */
export interface ValueKind<T> {
  /** What would be right, as the end of "must be ...". */
  readonly expects: string;
  /** The value of a trimmed text; undefined where it makes no sense. */
  readonly read: (text: string) => T | undefined;
}

/** `true` or `false`, in any letter case. */
export const truth: ValueKind<boolean> = {
  expects: 'true or false',
  read: (text) => (/^(true|false)$/i.test(text) ? text.toLowerCase() === 'true' : undefined),
};

/** Any text but none. */
export const anyText: ValueKind<string> = {
  expects: 'a text that is not empty',
  read: (text) => (text === '' ? undefined : text),
};

/** A whole number in a range, both ends included. */
export function whole(min: number, max = 1_000_000_000): ValueKind<number> {
  const ends = max === 1_000_000_000 ? `of at least ${min}` : `between ${min} and ${max}`;
  return {
    expects: `a whole number ${ends}`,
    read: (text) => {
      const value = Number(text);
      return /^-?\d+$/.test(text) && value >= min && value <= max ? value : undefined;
    },
  };
}

/** A number, also with a fraction, in a range. */
export function decimal(min: number, max: number): ValueKind<number> {
  return {
    expects: `a number between ${min} and ${max}`,
    read: (text) => {
      const value = Number(text);
      return /^\d+(\.\d+)?$/.test(text) && value >= min && value <= max ? value : undefined;
    },
  };
}

/** One of a few words, in any letter case. */
export function words<const W extends string>(...known: readonly W[]): ValueKind<W> {
  return {
    expects: `one of ${known.join(', ')}`,
    read: (text) => known.find((word) => word.toLowerCase() === text.toLowerCase()),
  };
}

/** One of a few words, or a whole number. */
export function wordOrWhole(min: number, ...known: readonly string[]): ValueKind<string> {
  const number = whole(min);
  return {
    expects: `${number.expects}, or ${known.join(', ')}`,
    read: (text) => (number.read(text) !== undefined || known.includes(text.toLowerCase()) ? text : undefined),
  };
}
