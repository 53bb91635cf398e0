/** A Postgres server that goes away, falls silent or cuts connections, and is used again. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import * as net from 'node:net';
import { describe, it, type TestContext } from 'node:test';
import pg from 'pg';
import { AppError } from '../../server/errors.js';
import { openPostgres } from '../../server/registry/open-postgres.js';
import { author, followed, put, unavailable } from './changes.js';
import { listening, NO_POSTGRES, postgresDatabase, UNHEARD } from './stores.js';

describe('a Postgres server that cuts every connection', { skip: NO_POSTGRES }, () => {
  it('is used again, and followers miss nothing', async (t) => {
    const on = await postgresDatabase();
    t.after(() => on.drop());
    const [here, there] = [await on.open(), await on.open()];
    t.after(() => Promise.all([here.close(), there.close()]));
    const { until, stop } = followed(here);
    const client = new pg.Client(on.place);
    await client.connect();
    await client.query(
      'select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()',
    );
    await client.end();
    for (;;) {
      const written = await there.write([put('after', 1)], author).catch((error: AppError) => error);
      if (!(written instanceof AppError)) break;
      assert.equal(written.reason, 'REGISTRY_UNAVAILABLE');
    }
    await until((all) => all.some(({ key: { name } }) => name === 'after'));
    await stop();
  });

  it('while changes are written tells the writers alone, whatever the connections were doing', async (t) => {
    const on = await postgresDatabase();
    const store = await on.open();
    const client = new pg.Client(on.place);
    await client.connect();
    let cutting = true;
    t.after(async () => {
      cutting = false;
      await Promise.all([client.end(), store.close()]);
      await on.drop();
    });
    const write = async (name: string) => {
      while (cutting)
        await store.write([put(name, 1)], author).catch(({ reason }: AppError) => {
          assert.equal(reason, 'REGISTRY_UNAVAILABLE');
        });
    };
    const writers = ['a', 'b', 'c'].map(write);
    for (let cuts = 0; cuts < 60; cuts += 1) {
      await client.query(
        'select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()',
      );
      // Between the queries of a transaction, too.
      await new Promise((resolve) => setTimeout(resolve, cuts % 15));
    }
    cutting = false;
    await Promise.all(writers);
  });
});

/** Passes bytes on to the Postgres server until it is told to pass on none, which nobody is told. */
async function passage(t: TestContext, place: string) {
  const { hostname, port } = new URL(place);
  let silent = false;
  let refusing = false;
  const sockets = new Set<net.Socket>();
  const server = net.createServer((near) => {
    if (refusing) return void near.destroy();
    const far = net.connect(Number(port || 5432), hostname);
    for (const [from, to] of [
      [near, far],
      [far, near],
    ] as const) {
      sockets.add(from);
      from.on('data', (data) => silent || to.write(data));
      from.on('end', () => silent || to.end());
      from.on('error', () => {});
    }
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  const through = new URL(place);
  through.host = `127.0.0.1:${(server.address() as net.AddressInfo).port}`;
  return {
    place: String(through),
    fallSilent: () => {
      silent = true;
    },
    speak: () => {
      silent = false;
    },
    goAway: () => {
      refusing = true;
      for (const socket of sockets) socket.destroy();
    },
    comeBack: () => {
      refusing = false;
    },
  };
}

describe('a Postgres server that falls silent', { skip: NO_POSTGRES, timeout: 60_000 }, () => {
  it('is told, and used again when it speaks; nothing waits for it for long', async (t) => {
    const on = await postgresDatabase();
    t.after(() => on.drop());
    const { place, fallSilent, speak } = await passage(t, on.place);
    const here = await openPostgres(place, UNHEARD, 500);
    const there = await on.open();
    t.after(() => there.close());
    const { until, stop } = followed(here);
    await here.write([put('before', 1)], author);
    fallSilent();
    await assert.rejects(here.write([put('lost', 1)], author), unavailable(/cannot be written: /));
    await there.write([put('meanwhile', 1)], author);
    speak();
    await until((all) => all.some(({ key: { name } }) => name === 'meanwhile'));
    await here.write([put('after', 1)], author);
    await stop();
    fallSilent();
    await here.close();
  });
});

describe('a Postgres server that goes away', { skip: NO_POSTGRES, timeout: 60_000 }, () => {
  it('is told once, however many connections it had and attempts there are, and once when it is back', async (t) => {
    const on = await postgresDatabase();
    t.after(() => on.drop());
    const { place, goAway, comeBack } = await passage(t, on.place);
    const { heard, news } = listening();
    const store = await openPostgres(place, news);
    t.after(() => store.close());
    const followers = [1, 2, 3].map(() => followed(store));
    await Promise.all(Array.from({ length: 8 }, (_, i) => store.write([put(`n${i}`, i)], author)));
    for (const { until } of followers) await until((seen) => seen.length >= 8);
    for (const outage of ['first', 'second']) {
      goAway();
      // Longer than all that tries again takes.
      await new Promise((resolve) => setTimeout(resolve, 2000));
      await assert.rejects(store.write([put('lost', 1)], author), unavailable(/cannot be written: /));
      comeBack();
      while (heard.at(-1) !== 'back') await new Promise((resolve) => setTimeout(resolve, 20));
      await store.write([put(outage, 1)], author);
    }
    assert.deepEqual(heard, ['lost', 'back', 'lost', 'back']);
    await Promise.all(followers.map(({ stop }) => stop()));
  });
});
