/** The contracts of every transport and of every SDK client, against the real server and the demo model. */
import { after } from 'node:test';
import { spawnServer } from '../rest/served.js';
import type { ContractServer } from '../rpc/transport-contract.js';
import { transportContract } from '../rpc/transport-contract.js';
import { clientContract } from '../sdk/client-contract.js';

let running: ReturnType<typeof spawnServer> | undefined;
after(async () => (await running)?.stop());

/** The same server for all of them: none changes what another one finds. */
async function start(): Promise<ContractServer> {
  running ??= spawnServer(['--log-level', 'error', '--grace-ms', '1000']);
  const { url } = await running;
  return {
    baseUrl: url,
    adapters: ['french', 'pirate'],
    activeRows: async () => {
      const text = await (await fetch(`${url}/metrics`)).text();
      const rows = text.split('\n').filter((line) => /^loramux_(running|waiting)_rows\{/.test(line));
      return rows.reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(' '))), 0);
    },
    close: async () => {},
  };
}

transportContract('the demo model', start);
clientContract('the demo model', start);
