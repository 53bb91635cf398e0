// Stack traces of a compiled copy name the lines of its sources. The maps are read when the first error shows its stack:
// reading them with the modules, as Node's own support does, would cost every start a quarter of a second.
import { readFileSync } from 'node:fs';
import { SourceMap } from 'node:module';
import { fileURLToPath } from 'node:url';

const copy = new URL('../', import.meta.url).href;
/** By URL of a module; null = it has none that can be read. */
const maps = new Map();

function mapOf(url) {
  if (!maps.has(url)) {
    try {
      maps.set(url, new SourceMap(JSON.parse(readFileSync(new URL(`${url}.map`), 'utf8'))));
    } catch {
      maps.set(url, null);
    }
  }
  return maps.get(url);
}

/** A place as V8 writes it, `url:line:column`, in the source; unchanged where nothing is known of it. */
function inSource(place, url, line, column) {
  if (!url.startsWith(copy)) return place;
  const { originalSource, originalLine, originalColumn } = mapOf(url)?.findEntry(line - 1, column - 1) ?? {};
  if (originalSource === undefined) return place;
  const source = fileURLToPath(new URL(originalSource, url));
  // Of a dependency the maps know no more than the file.
  return /[\\/]node_modules[\\/]/.test(source) ? source : `${source}:${originalLine + 1}:${originalColumn + 1}`;
}

Error.prepareStackTrace = (error, frames) => {
  const lines = frames.map((frame) => `\n    at ${frame}`.replace(/(file:\S+\.js):(\d+):(\d+)/, inSource));
  return `${Error.prototype.toString.call(error)}${lines.join('')}`;
};
