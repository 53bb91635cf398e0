/** Models and workflows managed over every transport of the SDK and over gRPC-Web, on the real server. */
import assert from 'node:assert/strict';
import { cpSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { Code, ConnectError, createClient } from '@connectrpc/connect';
import { createGrpcWebTransport } from '@connectrpc/connect-node';
import { BadRequestSchema, ErrorInfoSchema } from '../../gen/google/rpc/error_details_pb.js';
import { ModelService } from '../../gen/loramux/v1/models_pb.js';
import { WorkflowService } from '../../gen/loramux/v1/workflows_pb.js';
import * as sdk from '../../sdk/node.js';
import { MAX_BATCH, MAX_QUEUE } from '../../server/batch-bounds.js';
import { spawnServer } from '../rest/served.js';
import { CLIENTS } from '../sdk/client-contract.js';

const DEMO = fileURLToPath(new URL('../../models/demo', import.meta.url));
const short = { maxNewTokens: 4, ignoreEos: true };

describe('models and workflows over RPC', () => {
  let dir: string;
  let server: Awaited<ReturnType<typeof spawnServer>>;
  before(async () => {
    dir = mkdtempSync(path.join(tmpdir(), 'loramux-rpc-'));
    for (const name of ['broken', 'copy']) cpSync(DEMO, path.join(dir, name), { recursive: true });
    writeFileSync(path.join(dir, 'broken', 'config.json'), '{"model_type": "llama"}');
    const flags = ['--log-level', 'error', '--allow-path', DEMO, '--allow-path', dir, '--model', `demo=${DEMO}`];
    server = await spawnServer(flags);
  });
  after(async () => {
    await server.stop();
    rmSync(dir, { recursive: true, force: true });
  });

  for (const [name, connect] of Object.entries(CLIENTS)) {
    it(`registers, lists, describes and takes away models: ${name}`, async (t) => {
      const client = connect(server.url);
      t.after(() => 'close' in client && client.close());
      const made = await client.models.register({ url: DEMO, name: 'second', maxBatch: 2, maxQueue: 9 });
      assert.deepEqual([made.state, made.maxBatch, made.maxQueue, made.startup], ['ready', 2, 9, false]);
      assert.ok(made.createTime instanceof Date);
      const demo = await client.models.get('demo');
      assert.equal(demo.startup, true);
      const { description } = demo;
      assert.match(description!.baseFingerprint, /^[0-9a-f]{64}$/);
      assert.deepEqual([description!.dtype, description!.loraEnabled, description!.handler], ['fp32', true, '']);
      assert.equal(typeof description!.parameters, 'number');
      const page = await client.models.list({ pageSize: 1 });
      assert.deepEqual(page.items, [demo]);
      assert.notEqual(page.nextPageToken, '');
      const all = await client.models.list({ pageSize: 1 }).toArray();
      assert.deepEqual(
        all.map((model) => model.name),
        ['demo', 'second'],
      );
      const { results } = await client.predict({ inputs: 'one', model: 'second', parameters: short });
      assert.equal(results[0]!.receipt.baseFingerprint, made.description!.baseFingerprint);

      await assert.rejects(client.models.register({ url: DEMO, name: 'second' }), { reason: 'MODEL_EXISTS' });
      await assert.rejects(client.models.register({ url: path.join(dir, 'none') }), { reason: 'MODEL_SOURCE_INVALID' });
      await assert.rejects(client.models.register({ url: path.dirname(dir) }), { reason: 'MODEL_SOURCE_FORBIDDEN' });
      await assert.rejects(client.models.register({ url: path.join(dir, 'broken') }), { reason: 'MODEL_INVALID' });
      await assert.rejects(client.models.get('broken'), sdk.ModelNotFoundError);
      await assert.rejects(client.models.register({ url: '', maxBatch: 0 }), (error) => {
        assert.ok(error instanceof sdk.InvalidRequestError);
        assert.deepEqual(
          error.violations.map(({ field }) => field),
          ['url', 'max_batch'],
        );
        return true;
      });
      // As the flags and the keys of a serving.properties have it.
      for (const [field, bound] of [
        ['maxBatch', MAX_BATCH],
        ['maxQueue', MAX_QUEUE],
      ] as const) {
        const refused = client.models.register({ url: path.join(dir, 'none'), [field]: bound + 1 });
        await assert.rejects(refused, new RegExp(`must be .* less than or equal to ${bound}$`));
        await assert.rejects(client.models.register({ url: path.join(dir, 'none'), [field]: bound }), /does not exist/);
      }

      assert.equal((await client.models.unregister('second')).name, 'second');
      await assert.rejects(client.models.get('second'), sdk.ModelNotFoundError);
      await assert.rejects(client.models.unregister('second'), sdk.ModelNotFoundError);
      const scheduled = await client.models.register({ url: path.join(dir, 'copy'), synchronous: false });
      assert.deepEqual([scheduled.name, scheduled.state, scheduled.description], ['copy', 'loading', undefined]);
      await client.models.unregister('copy', { synchronous: false });
    });

    it(`registers, lists, describes and takes away workflows: ${name}`, async (t) => {
      const client = connect(server.url);
      t.after(() => 'close' in client && client.close());
      const src = path.join(DEMO, 'adapters/pirate');
      const definition = (version: string) => ({
        ...{ name: 'letters', version },
        models: { m: DEMO },
        configs: { adapters: { tone: { model: 'm', src } } },
        workflow: { out: ['adapter', 'tone', 'in'] },
      });
      const made = await client.workflows.create({ definition: definition('1') });
      assert.deepEqual([made.name, made.version, made.startup], ['letters', '1', false]);
      assert.deepEqual(made.models, [{ localName: 'm', model: 'm', url: DEMO }]);
      assert.deepEqual(made.adapters, [{ name: 'tone', model: 'm', source: src }]);
      assert.deepEqual(made.calls, ['adapter tone of m']);
      assert.deepEqual(JSON.parse(made.definition).workflow, definition('1').workflow);
      await client.workflows.create({ definition: JSON.stringify(definition('2')) });
      const fill = { adapter: 'shout', url: path.join(DEMO, 'adapters/shout'), model: DEMO };
      await client.workflows.create({ template: 'adapter', parameters: fill });
      const { results } = await client.predict({ inputs: 'one', model: 'letters', parameters: short });
      assert.equal(results[0]!.receipt.adapters[0]!.name, 'tone');

      assert.equal((await client.workflows.get('letters')).version, '2', 'the newest');
      assert.deepEqual(await client.workflows.get('letters', { version: '1' }), made);
      assert.equal((await client.workflows.list({ pageSize: 2 })).items.length, 2);
      const ids = (await client.workflows.list({ pageSize: 1 }).toArray()).map((w) => `${w.name}/${w.version}`);
      assert.deepEqual(ids, ['letters/1', 'letters/2', 'shout/0.1']);

      const used = await client.models.get('m');
      assert.deepEqual([used.direct, used.workflows], [false, ['letters/1', 'letters/2', 'shout/0.1']]);
      await assert.rejects(client.models.unregister('m'), { reason: 'MODEL_IN_USE' });
      await assert.rejects(client.workflows.create({ definition: definition('1') }), { reason: 'WORKFLOW_EXISTS' });
      await assert.rejects(client.workflows.create({ definition: '{}' }), { reason: 'WORKFLOW_INVALID' });
      await assert.rejects(client.workflows.create({ template: 'none', parameters: {} }), sdk.InvalidRequestError);
      await assert.rejects(client.workflows.create({ url: path.join(dir, 'none') }), sdk.InvalidRequestError);
      await assert.rejects(client.workflows.get('letters', { version: '3' }), { reason: 'WORKFLOW_NOT_FOUND' });
      await assert.rejects(client.workflows.delete('none'), sdk.ModelNotFoundError);

      assert.deepEqual(
        (await client.workflows.delete('letters', { version: '1' })).map((w) => w.version),
        ['1'],
      );
      assert.deepEqual(
        (await client.workflows.delete('letters')).map((w) => w.version),
        ['2'],
      );
      const scheduled = await client.workflows.create({ definition: definition(''), synchronous: false });
      assert.deepEqual([scheduled.name, scheduled.createTime], ['letters', undefined]);
      while ((await client.workflows.list().toArray()).every((w) => w.name !== 'letters'));
      for (const workflow of ['letters', 'shout']) await client.workflows.delete(workflow);
      await assert.rejects(client.models.get('m'), sdk.ModelNotFoundError);
    });
  }

  it('says over gRPC-Web what is wrong, as over the others', async () => {
    const transport = createGrpcWebTransport({ baseUrl: server.url, httpVersion: '1.1' });
    const models = createClient(ModelService, transport);
    const workflows = createClient(WorkflowService, transport);
    assert.deepEqual(
      (await models.listModels({})).models.map(({ name }) => name),
      ['demo'],
    );
    const failure = async (call: Promise<unknown>) =>
      ConnectError.from(
        await call.then(
          () => assert.fail('the call did not fail'),
          (error: unknown) => error,
        ),
      );
    const missing = await failure(models.getModel({ name: 'dem' }));
    assert.equal(missing.code, Code.NotFound);
    assert.equal(missing.findDetails(ErrorInfoSchema)[0]?.reason, 'MODEL_NOT_FOUND');
    const empty = await failure(workflows.createWorkflow({}));
    assert.equal(empty.code, Code.InvalidArgument);
    assert.deepEqual(
      empty.findDetails(BadRequestSchema)[0]?.fieldViolations.map(({ field }) => field),
      ['source'],
    );
    const token = await failure(workflows.listWorkflows({ pageToken: 'x' }));
    assert.equal(token.findDetails(ErrorInfoSchema)[0]?.reason, 'INVALID_REQUEST');
  });
});
