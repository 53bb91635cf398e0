/** The one logger: JSON lines with a request id on every line of a request, and no secrets. */
import { type DestinationStream, type Logger, pino } from 'pino';
import type { SettingValues } from '../config/settings.js';

/** Where credentials stand in what is logged; bodies and queries are never logged at all. */
const SECRETS = ['authorization', 'cookie', 'set-cookie', 'x-api-key'].flatMap((name) => [
  `headers["${name}"]`,
  `*.headers["${name}"]`,
]);

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
      redact: { paths: SECRETS, censor: '[hidden]' },
    },
    destination,
  );
}
