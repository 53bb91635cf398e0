// Makes sure that node_modules is what package-lock.json names. Needs nothing but Node and npm.
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';

/**
 * Why node_modules must be installed anew, or undefined when it is complete.
 * @param withDev true: with what only developing takes, which `npm ci --omit=dev` leaves out
 */
export function missingFrom(root, withDev) {
  if (!existsSync(path.join(root, 'node_modules'))) return 'no node_modules';
  const installed = readPackages(path.join(root, 'node_modules', '.package-lock.json'));
  if (!installed) return 'node_modules is incomplete';
  const wanted = readPackages(path.join(root, 'package-lock.json')) ?? {};
  for (const [place, entry] of Object.entries(wanted)) {
    if (place === '' || entry.link || (entry.dev && !withDev)) continue;
    const found = installed[place];
    if (!found) {
      // Packages for other platforms are named by the lock, but never installed here.
      if (entry.optional || entry.devOptional) continue;
      return `${place} is missing`;
    }
    if (found.version !== entry.version) return `${place} is ${found.version}, not ${entry.version}`;
    if (!existsSync(path.join(root, place, 'package.json'))) return `${place} is missing`;
  }
  return undefined;
}

/** Runs `npm ci` when something is missing; ends the process with npm's exit code when that fails. */
export function ensureInstalled(root, withDev) {
  const why = missingFrom(root, withDev);
  if (why === undefined) return;
  console.log(`installing dependencies with npm ci (${why})`);
  const npm = process.env.npm_execpath;
  // Warnings are left out: some packages declare a newer Node than the oldest that this project is tested on, and say so
  // at each install, in words that look like a failure.
  const args = ['ci', '--no-audit', '--no-fund', '--loglevel=error', ...(withDev ? ['--include=dev'] : [])];
  const result =
    npm && /\.[cm]?js$/.test(npm)
      ? spawnSync(process.execPath, [npm, ...args], { cwd: root, stdio: 'inherit' })
      : spawnSync('npm', args, { cwd: root, stdio: 'inherit', shell: process.platform === 'win32' });
  if (result.status === 0) return;
  console.error(`npm ci failed${result.error ? `: ${result.error.message}` : ''}`);
  process.exit(result.status || 1);
}

function readPackages(file) {
  try {
    return JSON.parse(readFileSync(file, 'utf8')).packages;
  } catch {
    return undefined;
  }
}
