/** Environment variables that look like settings of the server and are none: misspelt ones, and those of Kubernetes. */
import { nearNames } from '../adapters/adapter-names.js';
import type { Environment } from './read-settings.js';
import { SETTING_ENTRIES } from './settings.js';

const PREFIX = 'LORAMUX_';
/** What tells the project's own tests where things are; servers that they start inherit it. */
const OF_TESTS = 'LORAMUX_TEST_';

const bare = (name: string): string => name.slice(PREFIX.length);

const KNOWN: readonly string[] = SETTING_ENTRIES.map(({ env }) => env);

/**
 * Remarks for the log on variables that mean nothing here. No fault, as an unknown flag is: others, too, set variables of
 * a process.
 */
export function unknownVariables(env: Environment): string[] {
  return Object.entries(env)
    .filter(([name, value = '']) => name.startsWith(PREFIX) && value !== '' && !KNOWN.includes(name))
    .filter(([name]) => !name.startsWith(OF_TESTS))
    .filter(([name, value = '']) => !isServiceLink(name, value))
    .map(([name]) => {
      const near = nearNames(bare(name), KNOWN.map(bare)).map((one) => PREFIX + one);
      return `${name} is ignored: there is no such setting${near.length === 0 ? '' : `; near names: ${near.join(', ')}`}`;
    })
    .sort();
}

/**
 * True for what Kubernetes sets in the containers of a namespace that has a service named `loramux`, or named with that as
 * its beginning. One such name is a setting's: LORAMUX_PORT, with an address as its value.
 */
export function isServiceLink(name: string, value: string): boolean {
  if (/_SERVICE_(HOST|PORT(_\w+)?)$|_PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?$/.test(name)) return true;
  return name.endsWith('_PORT') && /^(tcp|udp|sctp):\/\//.test(value);
}
