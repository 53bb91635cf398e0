import type { AdapterInfo, AdapterService } from './adapter-types.js';

/** As many adapters as a listing gives at once. */
const PAGE = 1000;

/** Every adapter of a model, over all pages of the listing, sorted by name. */
export async function allAdapters(adapters: Pick<AdapterService, 'list'>, model: string): Promise<AdapterInfo[]> {
  const all: AdapterInfo[] = [];
  let pageToken = '';
  do {
    const page = await adapters.list({ model, pageSize: PAGE, pageToken });
    all.push(...page.adapters);
    pageToken = page.nextPageToken;
  } while (pageToken !== '');
  return all;
}
