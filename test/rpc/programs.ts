/** Programs that tests run where they are installed. */
import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { delimiter, join } from 'node:path';

function goBin(): string[] {
  try {
    return [join(execFileSync('go', ['env', 'GOPATH'], { encoding: 'utf8' }).trim(), 'bin')];
  } catch {
    return [];
  }
}

/** Path of a program: on the search path, or where `go install` puts it; undefined = not there. */
export function findProgram(program: string): string | undefined {
  const folders = [...(process.env.PATH ?? '').split(delimiter), ...goBin()];
  return folders.map((folder) => join(folder, program)).find((path) => existsSync(path));
}
