/**
 * Damage in the write-ahead log of a SQLite database. SQLite reads a log up to the first frame that is not right and
 * leaves out the rest without a word, as a crash in the middle of a commit ends it so. Here the two are told apart: what
 * follows a commit was written after that commit was on the disk, so a log that goes on behind one was damaged later.
 */
import { readRegularSync } from '../regular-file.js';

const HEADER = 32;
const FRAME_HEADER = 24;
/** The last bit says in which order the words of a checksum are. */
const MAGIC = 0x377f0682;
/** What the databases here have. */
const PAGE = 4096;

/** A frame as its header describes it; of the file format of SQLite, section 4.1. */
interface Frame {
  readonly page: number;
  /** It ends a transaction. */
  readonly commits: boolean;
  /** It follows the one before it, or the header. */
  readonly linked: boolean;
}

/** How the frames of a log are written. */
interface Form {
  readonly pageSize: number;
  /** Order of the bytes in the words of checksums. */
  readonly little: boolean;
  /** What the frames of this generation of the log have in common. */
  readonly salts: Buffer;
  /** Of the header; absent = it is not right. */
  readonly sum?: Sum;
}

type Sum = readonly [number, number];

/**
 * Where a log is damaged, if transactions that were on the disk are behind that, so that SQLite leaves them out.
 * @param file the log; one that is not there has no damage
 * @returns the byte up to which it is right; undefined = it is, or ends, as SQLite expects it
 */
export function damageWithin(file: string): number | undefined {
  const damage = damageNow(file);
  // Another process may have written while the log was read, and what was read last is newer than what was read first.
  return damage !== undefined && damageNow(file) === damage ? damage : undefined;
}

function damageNow(file: string): number | undefined {
  const log = readLog(file);
  if (log.length <= HEADER + FRAME_HEADER) return undefined;
  for (const form of formsOf(log)) {
    const frame = damagedFrame(log, form);
    if (frame !== undefined) return form.sum === undefined ? 0 : HEADER + frame * (FRAME_HEADER + form.pageSize);
  }
  return undefined;
}

/** Empty where there is none. */
function readLog(file: string): Buffer {
  try {
    return readRegularSync(file);
  } catch {
    return Buffer.alloc(0);
  }
}

/** What the header says, or, where that is damaged, what may be true. */
function formsOf(log: Buffer): Form[] {
  const little = (log.readUInt32BE(0) & 1) === 0;
  const sum = checksum(log.subarray(0, 24), [0, 0], little);
  if ((log.readUInt32BE(0) & ~1) >>> 0 === MAGIC && isSum(log, 24, sum))
    return [{ pageSize: log.readUInt32BE(8), little, salts: log.subarray(16, 24), sum }];
  const salts = log.subarray(HEADER + 8, HEADER + 16);
  return [true, false].map((order) => ({ pageSize: PAGE, little: order, salts }));
}

/** Number of the first frame that is not right, where a transaction follows another one behind it. */
function damagedFrame(log: Buffer, form: Form): number | undefined {
  const frames = framesOf(log, form);
  const first = frames.findIndex(({ linked }) => !linked);
  const goesOn = frames.some(({ linked, page }, at) => {
    const before = frames[at - 1];
    // Some systems write the last frame of a transaction several times.
    return at > first && linked && before?.commits && before.page !== page;
  });
  return first >= 0 && goesOn ? first : undefined;
}

function framesOf(log: Buffer, { pageSize, little, salts, sum }: Form): Frame[] {
  let before = sum;
  const frames: Frame[] = [];
  for (let at = HEADER; at + FRAME_HEADER + pageSize <= log.length; at += FRAME_HEADER + pageSize) {
    // Of an earlier generation, which is all in the database.
    if (!log.subarray(at + 8, at + 16).equals(salts)) {
      frames.push({ page: 0, commits: false, linked: false });
      before = undefined;
      continue;
    }
    const own: Sum | undefined =
      before &&
      checksum(
        log.subarray(at + FRAME_HEADER, at + FRAME_HEADER + pageSize),
        checksum(log.subarray(at, at + 8), before, little),
        little,
      );
    const linked = own !== undefined && isSum(log, at + 16, own);
    frames.push({ page: log.readUInt32BE(at), commits: log.readUInt32BE(at + 4) > 0, linked });
    // What the frame says itself: whether the next one follows it does not depend on what was before.
    before = [log.readUInt32BE(at + 16), log.readUInt32BE(at + 20)];
  }
  return frames;
}

const isSum = (log: Buffer, at: number, [one, two]: Sum): boolean =>
  log.readUInt32BE(at) === one && log.readUInt32BE(at + 4) === two;

/** The checksum of SQLite's log, on from that of what was before. */
function checksum(bytes: Buffer, [one, two]: Sum, little: boolean): Sum {
  let [a, b] = [one, two];
  const word = (at: number) => (little ? bytes.readUInt32LE(at) : bytes.readUInt32BE(at));
  for (let at = 0; at < bytes.length; at += 8) {
    a = (a + word(at) + b) >>> 0;
    b = (b + word(at + 4) + a) >>> 0;
  }
  return [a, b];
}
