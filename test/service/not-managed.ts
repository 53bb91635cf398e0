/** The changes that a double of the adapter service does not offer; tests of them run against the real one. */
import { AppError } from '../../server/errors.js';
import type { AdapterService } from '../../server/service/types.js';

const refuse = (): never => {
  throw new AppError('UNIMPLEMENTED', 'this double does not change adapters');
};

export const notManaged: Pick<
  AdapterService,
  'update' | 'watch' | 'events' | 'listAliases' | 'getAlias' | 'setAlias' | 'deleteAlias'
> = {
  update: async () => refuse(),
  watch: () => refuse(),
  events: async () => refuse(),
  listAliases: async () => refuse(),
  getAlias: async () => refuse(),
  setAlias: async () => refuse(),
  deleteAlias: async () => refuse(),
};
