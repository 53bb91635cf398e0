/**
 * A local double of the hub's HTTP API, as far as it is used: a repository's commit, its tree, and its files, where
 * large ones lie on another host behind a redirect.
 */
import { createHash } from 'node:crypto';
import type { ServerResponse } from 'node:http';
import { sha256 } from './archives.js';
import { type FileServer, fileServer } from './file-server.js';

/** Content from which files lie behind a redirect. */
const LARGE = 512;

export interface Hub {
  readonly endpoint: string;
  /** Serves the API and small files. */
  readonly api: FileServer;
  /** Serves large files. */
  readonly storage: FileServer;
  /** Makes a commit of the repository; the branch main points to it. */
  commit(repo: string, files: Readonly<Record<string, Buffer>>): string;
  close(): Promise<void>;
}

/** Starts a hub; with a token, nothing is told without it. */
export async function hubDouble(token?: string): Promise<Hub> {
  const [api, storage] = await Promise.all([fileServer(), fileServer()]);
  const commits = new Map<string, Readonly<Record<string, Buffer>>>();
  const branches = new Map<string, string>();
  const json = (response: ServerResponse, body: unknown, status = 200) => {
    response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));
  };
  api.handle = (request, response) => {
    const url = new URL(request.url!, 'http://hub');
    if (token !== undefined && request.headers.authorization !== `Bearer ${token}`) {
      json(response, { error: 'Invalid credentials' }, 401);
      return true;
    }
    const info = /^\/api\/models\/([^/]+\/[^/]+)\/revision\/(.+)$/.exec(url.pathname);
    const tree = /^\/api\/models\/([^/]+\/[^/]+)\/tree\/([^/]+)(?:\/(.+))?$/.exec(url.pathname);
    const [, repo, given] = info ?? tree ?? [];
    if (repo === undefined) return false;
    const revision = decodeURIComponent(given!);
    const commit = branches.get(`${repo}@${revision}`) ?? revision;
    const files = commits.get(`${repo}@${commit}`);
    if (files === undefined) json(response, { error: 'Repository not found' }, 404);
    else if (info !== null) json(response, { _id: '1', id: repo, sha: commit, private: false, downloads: 0, likes: 0 });
    else sendTree(files, tree?.[3], url, response);
    return true;
  };
  return {
    endpoint: api.url,
    api,
    storage,
    commit(repo, files) {
      const commit = createHash('sha1').update(repo).update(JSON.stringify(files)).digest('hex');
      commits.set(`${repo}@${commit}`, files);
      branches.set(`${repo}@main`, commit);
      for (const [path, body] of Object.entries(files)) {
        const place = `/${repo}/resolve/${commit}/${path}`;
        api.files.set(place, body);
        if (body.length < LARGE) continue;
        storage.files.set(`/blob/${sha256(body)}`, body);
        api.faults.set(place, { redirect: `${storage.url}/blob/${sha256(body)}?Signature=S3CR3T` });
      }
      return commit;
    },
    close: async () => {
      await Promise.all([api.close(), storage.close()]);
    },
  };

  /** Two entries a page, the next one by a Link header, as the hub does with many. */
  function sendTree(
    files: Readonly<Record<string, Buffer>>,
    folder: string | undefined,
    url: URL,
    response: ServerResponse,
  ): void {
    const prefix = folder === undefined ? '' : `${folder}/`;
    const entries = Object.entries(files)
      .filter(([path]) => path.startsWith(prefix))
      .map(([path, body]) => ({
        type: 'file',
        path,
        size: body.length,
        oid: createHash('sha1').update(`blob ${body.length}\0`).update(body).digest('hex'),
        ...(body.length < LARGE ? {} : { lfs: { oid: sha256(body), size: body.length, pointerSize: 130 } }),
      }));
    const at = Number(url.searchParams.get('cursor') ?? 0);
    if (at + 2 < entries.length) {
      url.searchParams.set('cursor', String(at + 2));
      response.setHeader('link', `<${api.url}${url.pathname}${url.search}>; rel="next"`);
    }
    json(response, entries.slice(at, at + 2));
  }
}
