/** Broken copies of good files: bytes and JSON values changed at random, reproducibly. */
import fc from 'fast-check';

/** Runs of each property; `LORAMUX_FUZZ_RUNS` makes them long. */
export const RUNS = Number(process.env.LORAMUX_FUZZ_RUNS ?? 60);
/** `LORAMUX_FUZZ_SEED` names another stretch of the endless list of inputs. */
export const SEED = Number(process.env.LORAMUX_FUZZ_SEED ?? 20_260_101);

/** Most bytes that a process may have grown by while it refuses broken files. */
export const MOST_GROWTH = 768 * 1024 * 1024;

/** A change of a byte string. `at` is a share of its length; low values are common, because headers are in front. */
interface Change {
  readonly kind: 'flip' | 'set' | 'cut' | 'drop' | 'repeat' | 'number';
  readonly at: number;
  readonly value: number;
}

const WORDS = [
  0n,
  1n,
  0x7fn,
  0xffn,
  0xffffn,
  0x7fff_ffffn,
  0xffff_ffffn,
  1n << 40n,
  (1n << 53n) + 1n,
  (1n << 63n) - 1n,
  (1n << 64n) - 1n,
];

/** From 0 to 1, evenly: doubles of fast-check crowd about 0. */
const share = fc.noBias(fc.integer({ min: 0, max: 2 ** 30 })).map((value) => value / 2 ** 30);

const change = fc.record({
  kind: fc.constantFrom<Change['kind']>('flip', 'flip', 'set', 'set', 'cut', 'drop', 'repeat', 'number'),
  at: fc.oneof({ weight: 1, arbitrary: share.map((value) => value / 50) }, share),
  value: fc.nat(0xffff),
});

/** One to three changes of a file. */
export const changes: fc.Arbitrary<readonly Change[]> = fc.array(change, { minLength: 1, maxLength: 3 });

/** The bytes with the changes made. */
export function mutate(original: Uint8Array, list: readonly Change[]): Buffer {
  let bytes: Buffer = Buffer.from(original);
  for (const { kind, at, value } of list) {
    const place = Math.min(Math.max(0, bytes.length - 1), Math.floor(at * bytes.length));
    const length = 1 + (value % 64);
    if (kind === 'flip' && bytes.length > 0) bytes[place]! ^= 1 << (value % 8);
    else if (kind === 'set' && bytes.length > 0) bytes[place] = value & 0xff;
    else if (kind === 'cut') bytes = bytes.subarray(0, place);
    else if (kind === 'drop') bytes = Buffer.concat([bytes.subarray(0, place), bytes.subarray(place + length)]);
    else if (kind === 'repeat') {
      bytes = Buffer.concat([bytes.subarray(0, place + length), bytes.subarray(place)]);
    } else if (kind === 'number' && place + 8 <= bytes.length) {
      bytes.writeBigUInt64LE(WORDS[value % WORDS.length]!, place - (place % 4));
    }
  }
  return bytes;
}

/** Values that a JSON file may hold where another was expected. */
const strange = fc.oneof(
  fc.constantFrom<unknown>(
    null,
    true,
    false,
    0,
    -1,
    1e308,
    2 ** 53,
    0.5,
    '',
    'x',
    '__proto__',
    '(a+)+$',
    '../../etc',
    [],
    {},
    [[]],
    '\ud800',
  ),
  fc.array(fc.constantFrom<unknown>(null, -1, 'q_proj', 2 ** 40, {}), { maxLength: 4 }),
  fc.dictionary(
    fc.constantFrom('q_proj', '.*', '(', 'content', 'type', 'id'),
    fc.constantFrom<unknown>(null, -1, 1e9, 'x', []),
  ),
);

/** A change of a JSON value: which of its places (in order of a walk), and what is put there; undefined = taken out. */
const edit = fc.record({
  place: share,
  value: fc.option(strange, { nil: undefined, freq: 5 }),
});

/** One to three edits. */
export const edits = fc.array(edit, { minLength: 1, maxLength: 3 });

type Edit = { readonly place: number; readonly value?: unknown };

/** A copy of the JSON value with the edits made; long lists count as one place each fifty entries. */
export function edited(original: unknown, list: readonly Edit[]): unknown {
  const root = structuredClone(original);
  for (const { place, value } of list) {
    const places: [Record<string, unknown>, string][] = [];
    walk(root, places);
    const chosen = places[Math.floor(place * places.length * 0.999_999)];
    if (chosen === undefined) continue;
    const [holder, key] = chosen;
    if (value === undefined) delete holder[key];
    else holder[key] = value;
  }
  return root === undefined ? root : JSON.parse(JSON.stringify(root));
}

function walk(value: unknown, places: [Record<string, unknown>, string][]): void {
  if (typeof value !== 'object' || value === null) return;
  const keys = Object.keys(value);
  const step = keys.length > 100 ? 50 : 1;
  for (let i = 0; i < keys.length; i += step) {
    const holder = value as Record<string, unknown>;
    places.push([holder, keys[i]!]);
    walk(holder[keys[i]!], places);
  }
}
