/** The one logger: JSON lines with a request id on every line of a request, and no secrets. */
import { type DestinationStream, type Logger, pino } from 'pino';
import type { SettingValues } from '../config/settings.js';
import { AppError, FAULTS } from '../errors.js';

/** Where credentials stand in what is logged; bodies and queries are never logged at all. */
const SECRETS = ['authorization', 'cookie', 'set-cookie', 'x-api-key'].flatMap((name) => [
  `headers["${name}"]`,
  `*.headers["${name}"]`,
]);

/** A refusal is told by what it says; only faults of the server, and what nobody foresaw, need the place in the code. */
function describeError(error: unknown): unknown {
  if (!(error instanceof AppError) || FAULTS.has(error.reason)) return pino.stdSerializers.err(error as Error);
  const { name: type, reason, message, metadata } = error;
  return { type, reason, message, ...(Object.keys(metadata).length > 0 && { metadata }) };
}

/**
 * @param level lines below it are not written
 * @param destination where lines go; standard error in the server, so that standard output stays for what it serves
 */
export function createLogger(level: SettingValues['logLevel'], destination: DestinationStream): Logger {
  return pino(
    {
      level,
      // Process id and host say nothing that the place of the log does not say.
      base: null,
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      // Whoever looks for something wants the stacks of refusals, too.
      serializers: { err: level === 'debug' || level === 'trace' ? pino.stdSerializers.err : describeError },
      redact: { paths: SECRETS, censor: '[hidden]' },
    },
    destination,
  );
}
