import { startServer } from './start-server.js';
import { transportContract } from './transport-contract.js';

transportContract('without a model', async () => {
  const server = await startServer();
  return {
    baseUrl: server.baseUrl,
    adapters: ['french', 'pirate'],
    activeRows: server.services.activeRows,
    close: () => server.close(0),
  };
});
