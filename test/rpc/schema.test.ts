import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { AdapterService } from '../../gen/loramux/v1/adapters_pb.js';
import { InferenceService } from '../../gen/loramux/v1/inference_pb.js';
import { ModelService } from '../../gen/loramux/v1/models_pb.js';
import { WorkflowService } from '../../gen/loramux/v1/workflows_pb.js';
import { SCHEMA } from '../../server/rpc/schema.js';

const SERVICES = [InferenceService, AdapterService, ModelService, WorkflowService];

// That generated code is fresh, and the schema well styled and commented, is for `npm run check`.
describe('schema', () => {
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
