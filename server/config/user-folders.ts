/** Folders of the user's own, where the XDG Base Directory Specification places them. */
import path from 'node:path';

type Environment = Readonly<Record<string, string | undefined>>;

/** Below the home folder, where a variable says nothing. */
const PLACES = { XDG_STATE_HOME: ['.local', 'state'], XDG_CACHE_HOME: ['.cache'] } as const;

/** Only an absolute path counts; as the specification has it, an empty or relative one is ignored. */
const counts = (place: string | undefined): place is string => place !== undefined && path.isAbsolute(place);

/** The folder that a variable or else the home folder leads to; undefined = neither is an absolute path. */
export function userFolder(env: Environment, variable: keyof typeof PLACES): string | undefined {
  const given = env[variable];
  if (counts(given)) return given;
  return counts(env.HOME) ? path.join(env.HOME, ...PLACES[variable]) : undefined;
}

/** Remarks for the log on variables that do not count. */
export function ignoredFolders(env: Environment): string[] {
  return Object.keys(PLACES)
    .filter((variable) => (env[variable] ?? '') !== '' && !counts(env[variable]))
    .map((variable) => `${variable}=${env[variable]} is ignored: it is no absolute path`);
}
