import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { AdapterService } from '../../gen/loramux/v1/adapters_pb.js';
import { InferenceService } from '../../gen/loramux/v1/inference_pb.js';
import { ModelService } from '../../gen/loramux/v1/models_pb.js';
import { WorkflowService } from '../../gen/loramux/v1/workflows_pb.js';
import { SCHEMA } from '../../server/rpc/schema.js';

const SERVICES = [InferenceService, AdapterService, ModelService, WorkflowService];
const run = promisify(execFile);
const root = fileURLToPath(new URL('../..', import.meta.url));
const generate = (flag: string) =>
  run(process.execPath, ['--import', 'tsx', 'scripts/generate.ts', flag], { cwd: root }).catch((error) =>
    assert.fail(`${error.stdout}${error.stderr}`),
  );

describe('schema', () => {
  it('is generated freshly, well styled, and commented', async () => {
    await generate('--check'); // one after the other: both fill the folder of the schemas of others
    await generate('--lint');
  });

  it('has the same methods and fields in the generated messages and in what the server checks', () => {
    for (const { input, output } of SERVICES.flatMap(({ methods }) => methods)) {
      for (const message of [input, output]) {
        const names = SCHEMA.getMessage(message.typeName)?.fields.map(({ name }) => name);
        assert.deepEqual(
          names,
          message.fields.map(({ name }) => name),
        );
      }
    }
  });
});
