/**
 * What a source text means: a folder here, objects under an S3 prefix, a repository of a hub, or an archive behind a
 * URL. Parsing looks at nothing but the text; {@link describeSource} is how a source may be shown to anybody.
 */
import { sourcePath } from '../adapters/source.js';
import { AppError } from '../errors.js';

/** A folder or file of this machine. */
export interface FolderSource {
  readonly kind: 'folder';
  /** Absolute. */
  readonly path: string;
}

/** Objects of an S3 bucket. */
export interface S3Source {
  readonly kind: 's3';
  readonly bucket: string;
  /** Without leading or trailing slash; '' = the whole bucket. */
  readonly prefix: string;
}

/** A repository of a model hub. */
export interface HubSource {
  readonly kind: 'hub';
  /** `org/name`. */
  readonly repo: string;
  /** Branch, tag or commit. */
  readonly revision: string;
  /** Folder or file inside of it, without slashes at its ends; '' = the whole repository. */
  readonly path: string;
}

/** A .tar.gz, .tgz, .tar or .zip behind a URL. */
export interface ArchiveSource {
  readonly kind: 'archive';
  /** Without fragment. */
  readonly url: URL;
  /** Lower-case hex digest of the archive. */
  readonly sha256: string;
}

/** A parsed source. */
export type Source = FolderSource | S3Source | HubSource | ArchiveSource;

/** A source that is not on this machine. */
export type RemoteSource = Exclude<Source, FolderSource>;

/** Kinds of archives, by the end of the URL's path. */
const ARCHIVE_NAME = /\.(tar\.gz|tgz|tar|zip)$/i;

const BUCKET = /^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$/;
const HUB_PART = /^[A-Za-z0-9][A-Za-z0-9._-]{0,95}$/;
const HUB_REVISION = /^[A-Za-z0-9][A-Za-z0-9._/-]{0,127}$/;
const HUB_ID = /^([A-Za-z0-9][\w.-]{0,95}\/[A-Za-z0-9][\w.-]{0,95})(@[\w./-]+)?$/;

/** The text without what may be secret in it: user information, query and fragment. */
export function redactSource(text: string): string {
  const match = /^([a-z][a-z0-9+.-]*:\/\/)([^/?#]*)([^?#]*)(\?[^#]*)?(#.*)?$/is.exec(text);
  if (match === null) return text;
  const [, scheme, authority, path, query] = match;
  const at = authority!.lastIndexOf('@');
  return `${scheme}${at < 0 ? authority : `[hidden]@${authority!.slice(at + 1)}`}${path}${query === undefined ? '' : '?[hidden]'}`;
}

/** How a source may be shown in logs, errors and answers. */
export function describeSource(source: Source): string {
  switch (source.kind) {
    case 'folder':
      return source.path;
    case 's3':
      return `s3://${source.bucket}/${source.prefix}`;
    case 'hub':
      return `hf://${source.repo}@${source.revision}${source.path === '' ? '' : `/${source.path}`}`;
    case 'archive':
      return redactSource(source.url.href);
  }
}

/** True for a text that could be the id of a hub's repository, as well as a relative folder: `org/name[@revision]`. */
export function isHubId(text: string): boolean {
  return HUB_ID.test(text);
}

/** True for a text that names something beyond this machine. */
export function isRemoteUri(text: string): boolean {
  return /^[a-z][a-z0-9+.-]+:\/\//i.test(text) && !/^file:/i.test(text);
}

type Fail = (what: string) => AppError;

/**
 * Parses a source.
 * @param text folder, `file:`, `s3://`, `hf://org/name@revision/path` or `https://` URI
 * @param base folder that relative paths begin at
 * @param sha256 digest of an archive, where the URI does not carry it as `#sha256=...`
 * @throws AppError ADAPTER_SOURCE_INVALID that says what is wrong, without repeating secrets
 */
export function parseSource(text: string, base: string, sha256?: string): Source {
  const fail: Fail = (what) =>
    new AppError('ADAPTER_SOURCE_INVALID', `source ${JSON.stringify(redactSource(text))}: ${what}`);
  const scheme = /^([a-z][a-z0-9+.-]+):\/\//i.exec(text)?.[1]?.toLowerCase();
  switch (scheme) {
    case undefined:
    case 'file':
      return { kind: 'folder', path: sourcePath(text, base) };
    case 's3':
      return parseS3(text, fail);
    case 'hf':
      return parseHub(text.slice('hf://'.length), fail);
    case 'http':
    case 'https':
      return parseArchive(text, sha256, fail);
    default:
      throw fail(`${scheme}: is not served; a folder, file:, s3://, hf:// or https:// would be right`);
  }
}

/** Parses `org/name[@revision]`, see {@link isHubId}. */
export function parseHubId(text: string): HubSource {
  return parseHub(text, (what) => new AppError('ADAPTER_SOURCE_INVALID', `source ${JSON.stringify(text)}: ${what}`));
}

/** Splits a path and refuses parts that could mean another place. */
function safeParts(path: string, fail: Fail): string[] {
  const parts = path.split('/');
  for (const part of parts) {
    if (part === '' || part === '.' || part === '..' || /[\0\\]/.test(part)) {
      throw fail(`its path has the part ${JSON.stringify(part)}; plain names between single slashes would be right`);
    }
  }
  return parts;
}

function parseS3(text: string, fail: Fail): S3Source {
  const rest = text.slice('s3://'.length);
  if (/[?#]/.test(rest)) throw fail('an S3 source has neither "?" nor "#"');
  const slash = rest.indexOf('/');
  const bucket = slash < 0 ? rest : rest.slice(0, slash);
  if (bucket.includes('@')) throw fail('credentials do not belong into a source; they come from the environment');
  if (!BUCKET.test(bucket) || bucket.includes('..')) {
    throw fail('the bucket must be 3 to 63 lower-case letters, digits, "." and "-"');
  }
  const prefix = slash < 0 ? '' : rest.slice(slash + 1).replace(/\/$/, '');
  return { kind: 's3', bucket, prefix: prefix === '' ? '' : safeParts(prefix, fail).join('/') };
}

function parseHub(rest: string, fail: Fail): HubSource {
  if (/[?#]/.test(rest)) throw fail('a hub source has neither "?" nor "#"');
  const [org, named, ...inside] = safeParts(rest.replace(/\/$/, ''), fail);
  if (org === undefined || named === undefined) throw fail('org/name would be right');
  const at = named.indexOf('@');
  const name = at < 0 ? named : named.slice(0, at);
  const revision = at < 0 ? 'main' : named.slice(at + 1).replaceAll(/%2f/gi, '/');
  for (const part of [org, name]) {
    if (!HUB_PART.test(part) || part.includes('--') || part.includes('..')) {
      throw fail(`${JSON.stringify(part)} cannot be part of a repository's name`);
    }
  }
  if (!HUB_REVISION.test(revision) || revision.includes('..')) {
    throw fail(`${JSON.stringify(revision)} cannot be a revision; a branch, tag or commit would be right`);
  }
  return { kind: 'hub', repo: `${org}/${name}`, revision, path: inside.join('/') };
}

function parseArchive(text: string, sha256: string | undefined, fail: Fail): ArchiveSource {
  let url: URL;
  try {
    url = new URL(text);
  } catch {
    throw fail('this is no URL');
  }
  if (url.username !== '' || url.password !== '') {
    throw fail('credentials do not belong into a source; a presigned URL would be right');
  }
  if (/%2f|%5c|%00/i.test(url.pathname)) throw fail('its path has an escaped slash or NUL');
  if (!ARCHIVE_NAME.test(url.pathname)) throw fail('its path must end in .tar.gz, .tgz, .tar or .zip');
  const written = /^#sha256=([0-9a-f]{64})$/i.exec(url.hash)?.[1];
  if (url.hash !== '' && written === undefined) throw fail('its fragment must be #sha256= and 64 hexadecimal digits');
  if (sha256 !== undefined && !/^[0-9a-f]{64}$/i.test(sha256)) {
    throw fail('the option sha256 must be 64 hexadecimal digits');
  }
  const digest = (written ?? sha256)?.toLowerCase();
  if (digest === undefined) {
    throw fail('an archive needs its digest: append #sha256= and 64 hexadecimal digits, or give the option sha256');
  }
  if (written !== undefined && sha256 !== undefined && written.toLowerCase() !== sha256.toLowerCase()) {
    throw fail('its fragment and the option sha256 name different digests');
  }
  url.hash = '';
  return { kind: 'archive', url, sha256: digest };
}
