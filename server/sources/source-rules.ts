/**
 * Which remote sources may be used: patterns that the operator gives at start. Without any, nothing beyond this machine
 * is ever asked. A pattern allows what it names and everything below; `*` stands for any characters within one part.
 */
import { AppError } from '../errors.js';
import { describeSource, type RemoteSource } from './source.js';

interface Rule {
  readonly scheme: string;
  /** Bucket, organisation, or host with port, then the parts of the path. */
  readonly parts: readonly RegExp[];
  /** Host as written, where it has no wildcard: such a host may also be a private address. */
  readonly literalHost: string | undefined;
  /** Revision of a hub pattern; undefined = any. */
  readonly revision: string | undefined;
}

const SCHEMES = ['s3', 'hf', 'https', 'http'];

function partPattern(part: string): RegExp {
  return new RegExp(`^${part.replace(/[.+?^${}()|[\]\\]/g, '\\$&').replaceAll('*', '[^/]*')}$`, 's');
}

/** Reads one pattern. Throws an Error that says what is wrong. */
function parseRule(pattern: string): Rule {
  const match = /^([a-z0-9]+):\/\/([^?#]+)$/i.exec(pattern);
  const scheme = match?.[1]?.toLowerCase() ?? '';
  if (match === null || !SCHEMES.includes(scheme)) {
    throw new Error(`${JSON.stringify(pattern)}: must begin with s3://, hf:// or https://, without "?" or "#"`);
  }
  if (/^[^/]*@/.test(match[2]!)) throw new Error('a pattern has no user information');
  let rest = match[2]!;
  let revision: string | undefined;
  if (scheme === 'hf') {
    const at = rest.indexOf('@');
    if (at >= 0) {
      revision = rest.slice(at + 1);
      rest = rest.slice(0, at);
    }
  }
  const parts = rest.replace(/\/+$/, '').split('/');
  const wrong = parts.find((part) => part === '' || part === '.' || part === '..');
  if (wrong !== undefined) throw new Error(`${JSON.stringify(pattern)}: has the part ${JSON.stringify(wrong)}`);
  const host = parts[0]!;
  if (scheme === 'http' && !isLoopbackHost(host)) {
    throw new Error(`${JSON.stringify(pattern)}: http: is for 127.0.0.1, [::1] and localhost only`);
  }
  return {
    scheme,
    parts: parts.map((part, i) => partPattern(i === 0 && scheme.startsWith('http') ? part.toLowerCase() : part)),
    literalHost: scheme.startsWith('http') && !host.includes('*') ? host.toLowerCase() : undefined,
    revision,
  };
}

/** True for the names of this machine, with or without a port. */
function isLoopbackHost(host: string): boolean {
  return /^(localhost|127(\.\d{1,3}){3}|\[::1\])(:\d+)?$/i.test(host);
}

/** The patterns of `--allow-source`. */
export class SourceRules {
  private readonly rules: readonly Rule[];

  /** Throws an Error that names the pattern that makes no sense. */
  constructor(patterns: readonly string[]) {
    this.rules = patterns.map(parseRule);
  }

  /** True where a pattern covers the source. */
  allows(source: RemoteSource): boolean {
    switch (source.kind) {
      case 's3':
        return this.matches('s3', [source.bucket, ...split(source.prefix)]);
      case 'hub':
        return this.matches('hf', [...source.repo.split('/'), ...split(source.path)], source.revision);
      case 'archive':
        return this.allowsUrl(source.url);
    }
  }

  /** True where a pattern covers the URL: also asked for every redirect. */
  allowsUrl(url: URL): boolean {
    const scheme = url.protocol.slice(0, -1);
    if (scheme === 'http' && !isLoopbackHost(url.host)) return false;
    return this.matches(scheme, [url.host, ...split(url.pathname.slice(1))]);
  }

  /** True where a pattern names the host without a wildcard: only then may it lie in a private network. */
  namesHost(host: string): boolean {
    return this.rules.some(({ literalHost }) => literalHost === host.toLowerCase());
  }

  /** Throws ADAPTER_SOURCE_FORBIDDEN unless a pattern covers the source. */
  check(source: RemoteSource): void {
    if (this.allows(source)) return;
    const none = this.rules.length === 0 ? 'no remote source is allowed' : 'no --allow-source covers it';
    throw new AppError(
      'ADAPTER_SOURCE_FORBIDDEN',
      `${describeSource(source)}: ${none}; the server must be started with a matching --allow-source`,
    );
  }

  private matches(scheme: string, parts: readonly string[], revision?: string): boolean {
    return this.rules.some(
      (rule) =>
        rule.scheme === scheme &&
        (rule.revision === undefined || rule.revision === revision) &&
        rule.parts.length <= parts.length &&
        rule.parts.every((pattern, i) => pattern.test(parts[i]!)),
    );
  }
}

function split(path: string): string[] {
  return path === '' ? [] : path.split('/');
}
