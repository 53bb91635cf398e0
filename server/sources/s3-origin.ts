/** Objects below an S3 prefix. Region, endpoint and credentials come from the configuration and the AWS environment. */
import type { Readable } from 'node:stream';
import {
  GetObjectCommand,
  ListObjectsV2Command,
  S3Client,
  type S3ClientConfig,
  type S3ServiceException,
} from '@aws-sdk/client-s3';
import { AppError } from '../errors.js';
import { type Origin, type RemoteFile, SourceChanged } from './origin.js';
import { describeSource, type S3Source } from './source.js';

/** Where S3 is; what is absent comes from AWS_REGION, AWS_ENDPOINT_URL_S3 and the shared configuration files. */
export interface S3Settings {
  readonly endpoint?: string | undefined;
  readonly region?: string | undefined;
  /** True: the bucket is part of the path rather than of the host, as most other S3 servers want it. */
  readonly pathStyle?: boolean | undefined;
}

/** Most objects that are listed below one prefix. */
const MAX_OBJECTS = 10_000;

/** A client for all sources; retries are this project's own, so that a cut download goes on where it ended. */
export function createS3Client(settings: S3Settings, idleMs: number): S3Client {
  const config: S3ClientConfig = {
    maxAttempts: 1,
    followRegionRedirects: true,
    requestHandler: { requestTimeout: idleMs, connectionTimeout: idleMs },
    // Whole objects are checked by size and ETag; parts of them carry no checksum.
    responseChecksumValidation: 'WHEN_REQUIRED',
    ...(settings.endpoint === undefined ? {} : { endpoint: settings.endpoint }),
    ...(settings.region === undefined ? {} : { region: settings.region }),
    ...(settings.pathStyle === undefined ? {} : { forcePathStyle: settings.pathStyle }),
  };
  return new S3Client(config);
}

/** What would be right, by the name of what S3 answered. */
const HINTS: Readonly<Record<string, string>> = {
  AuthorizationHeaderMalformed: 'the bucket may be in another region than AWS_REGION or --s3-region says',
  PermanentRedirect: 'the bucket may be in another region than AWS_REGION or --s3-region says',
  InvalidAccessKeyId: 'AWS_ACCESS_KEY_ID is not known there',
  SignatureDoesNotMatch: 'AWS_SECRET_ACCESS_KEY does not belong to AWS_ACCESS_KEY_ID',
  AccessDenied: 'the credentials may not list or read it',
  NoSuchBucket: 'there is no such bucket',
};

/** What the SDK threw, as what it means; its message is not passed on. */
function failure(thrown: unknown, label: string, signal: AbortSignal): unknown {
  if (signal.aborted) return signal.reason;
  const error = thrown as Error & Partial<S3ServiceException> & { readonly code?: string };
  const status = error.$metadata?.httpStatusCode;
  const name = error.name ?? 'Error';
  if (status === 412) return new SourceChanged(label);
  if (name === 'CredentialsProviderError' || name === 'CredentialsError') {
    return new AppError('ADAPTER_SOURCE_INVALID', `${label}: there are no AWS credentials in the server's environment`);
  }
  if (status !== undefined && status < 500 && status !== 429 && status !== 408) {
    const hint = HINTS[name] === undefined ? '' : `: ${HINTS[name]}`;
    return new AppError('ADAPTER_SOURCE_INVALID', `${label}: S3 answered ${status} ${name}${hint}`);
  }
  if (/region is missing/i.test(error.message)) {
    return new AppError(
      'ADAPTER_SOURCE_INVALID',
      `${label}: no S3 region is set; AWS_REGION or --s3-region would be right`,
    );
  }
  const what = status === undefined ? `the request failed (${error.code ?? name})` : `S3 answered ${status} ${name}`;
  return new AppError('SOURCE_UNAVAILABLE', `${label}: ${what}`);
}

/** MD5 of the content, where the ETag is one: not for parts, nor under other encryption than S3's own. */
function md5Of(etag: string, encryption: string | undefined, customerKey: string | undefined): string | undefined {
  const hex = /^"?([0-9a-f]{32})"?$/.exec(etag)?.[1];
  return customerKey === undefined && (encryption === undefined || encryption === 'AES256') ? hex : undefined;
}

/** Makes the origin of a prefix. */
export function s3Origin(source: S3Source, client: S3Client): Origin {
  const label = describeSource(source);
  const { bucket, prefix } = source;
  const keyOf = ({ path }: RemoteFile) => (prefix === '' ? path : isObject ? prefix : `${prefix}/${path}`);
  // A prefix that ends like a file is that object.
  const isObject = /\.gguf$/i.test(prefix);
  return {
    label,
    async list(signal) {
      const files: RemoteFile[] = [];
      const start = prefix === '' ? '' : isObject ? prefix : `${prefix}/`;
      let token: string | undefined;
      do {
        const page = await client
          .send(new ListObjectsV2Command({ Bucket: bucket, Prefix: start, ContinuationToken: token }), {
            abortSignal: signal,
          })
          .catch((error: unknown) => {
            throw failure(error, label, signal);
          });
        for (const { Key = '', Size = 0, ETag = '' } of page.Contents ?? []) {
          // Consoles make empty objects that stand for folders.
          if (Key.endsWith('/')) continue;
          if (isObject && Key !== prefix) continue;
          const path = isObject ? Key.slice(Key.lastIndexOf('/') + 1) : Key.slice(start.length);
          files.push({ path, size: Size, version: ETag, digests: {} });
        }
        token = page.IsTruncated === true ? page.NextContinuationToken : undefined;
        if (files.length > MAX_OBJECTS) {
          throw new AppError('SOURCE_TOO_LARGE', `${label}: more than ${MAX_OBJECTS} objects lie there`);
        }
      } while (token !== undefined);
      return files;
    },
    async open(file, offset, signal) {
      const answer = await client
        .send(
          new GetObjectCommand({
            Bucket: bucket,
            Key: keyOf(file),
            ...(file.version === '' ? {} : { IfMatch: file.version }),
            ...(offset === 0 ? {} : { Range: `bytes=${offset}-` }),
          }),
          { abortSignal: signal },
        )
        .catch((error: unknown) => {
          throw failure(error, label, signal);
        });
      if (answer.ETag !== undefined && answer.ETag !== file.version) throw new SourceChanged(label);
      return {
        body: answer.Body as Readable,
        offset: answer.ContentRange === undefined ? 0 : offset,
        digests: { md5: md5Of(file.version, answer.ServerSideEncryption, answer.SSECustomerAlgorithm) },
      };
    },
  };
}
