/** The contracts of every transport and of every SDK client, against the real server and the demo model. */

import { spawnServer } from '../rest/served.js';
import type { ContractServer } from '../rpc/transport-contract.js';
import { transportContract } from '../rpc/transport-contract.js';
import { clientContract } from '../sdk/client-contract.js';

async function start(): Promise<ContractServer> {
  const { url, stop } = await spawnServer(['--log-level', 'error', '--grace-ms', '1000']);
  return {
    baseUrl: url,
    adapters: ['french', 'pirate'],
    activeRows: async () => {
      const text = await (await fetch(`${url}/metrics`)).text();
      const rows = text.split('\n').filter((line) => /^loramux_(running|waiting)_rows\{/.test(line));
      return rows.reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(' '))), 0);
    },
    close: stop,
  };
}

transportContract('the demo model', start);
clientContract('the demo model', start);
