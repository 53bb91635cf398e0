/**
 * A time for reading and rendering chat templates: a template is a program, and one that runs for ever would stop the thread
 * that serves everybody.
 */
import { createContext, Script } from 'node:vm';
import { AppError } from '../errors.js';
import { SpareFiles } from './spare-files.js';

/** How long the templates of someone may take. */
export interface TemplateBound {
  /** Whose they are, for messages. */
  readonly owner: 'model' | 'adapter';
  /** Most time that reading or rendering one takes, in milliseconds. */
  readonly ms: number;
  /** What a long chat has in addition, for every million characters; absent = nothing. */
  readonly msPerMillion?: number;
}

/** Of a model, which the operator chose: ten times what a chat takes, however long, as machines are busy. */
export const OF_MODEL: TemplateBound = { owner: 'model', ms: 5000, msPerMillion: 15_000 };
/** Of an adapter, which strangers bring: a thousand times what a usual chat takes. */
export const OF_ADAPTER: TemplateBound = { owner: 'adapter', ms: 500 };

/**
 * Node watches the time from an event loop of its own, which takes four or five descriptors; where they are not there it
 * ends the whole process.
 */
const LOOP_FILES = 6;

const spare = new SpareFiles(LOOP_FILES);
let running = false;
const CALL = new Script('work()');
const room: { work: () => unknown } = { work: () => undefined };
const context = createContext(room);

/**
 * Runs `work` to its end. Within another call it has that one's time.
 * @param characters of the chat that is rendered
 * @throws AppError CHAT_TEMPLATE_FAILED once the time is over
 */
export function within<T>({ owner, ms, msPerMillion = 0 }: TemplateBound, work: () => T, characters = 0): T {
  if (running) return work();
  const timeout = Math.ceil(ms + (msPerMillion * characters) / 1e6);
  room.work = work;
  running = true;
  try {
    return spare.lend(() => CALL.runInContext(context, { timeout })) as T;
  } catch (thrown) {
    if ((thrown as NodeJS.ErrnoException).code !== 'ERR_SCRIPT_EXECUTION_TIMEOUT') throw thrown;
    throw new AppError('CHAT_TEMPLATE_FAILED', `the ${owner}'s chat template takes more than ${timeout} ms`);
  } finally {
    running = false;
  }
}
