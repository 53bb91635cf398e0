/** Where remote files come from: each kind of source lists its files and opens one of them at an offset. */
import type { Readable } from 'node:stream';

/** Digests that the origin names for a file's content; what is there is checked. */
export interface KnownDigests {
  readonly sha256?: string | undefined;
  readonly md5?: string | undefined;
  /** SHA-1 over `blob <size>\0` and the content, as git names it. */
  readonly gitSha1?: string | undefined;
}

/** A file of an origin. */
export interface RemoteFile {
  /** Relative to the source, parts separated by "/". */
  readonly path: string;
  readonly size: number;
  /** Changes with the content (ETag, object id); the same version is the same bytes. */
  readonly version: string;
  readonly digests: KnownDigests;
}

/** An answer to {@link Origin.open}. */
export interface OpenedFile {
  readonly body: Readable;
  /** Position of the body's first byte: the one asked for, or 0 where the origin cannot continue. */
  readonly offset: number;
  /** Digests learned only now. */
  readonly digests?: KnownDigests | undefined;
}

/** The content of a file is no longer that of its listing: the listing has to be made again. */
export class SourceChanged extends Error {}

/** A remote source that was reached. */
export interface Origin {
  /** How it may be shown: holds no secret. */
  readonly label: string;
  /**
   * All files. The order is that of the origin.
   * @throws AppError ADAPTER_SOURCE_INVALID (not there, no access), SOURCE_UNAVAILABLE (may pass)
   */
  list(signal: AbortSignal): Promise<readonly RemoteFile[]>;
  /**
   * Opens a file of the listing.
   * @throws AppError as `list`; SourceChanged where the content is no longer that of the listing
   */
  open(file: RemoteFile, offset: number, signal: AbortSignal): Promise<OpenedFile>;
}
