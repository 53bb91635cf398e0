import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { AdapterEntry } from '../../server/adapters/adapter-entry.js';
import { AdapterRegistry } from '../../server/adapters/registry.js';

/** An entry with what the registry looks at. */
function entry(name: string, digest: string, pool = 'engine'): AdapterEntry {
  return { name, digest, pool, state: 'new' } as AdapterEntry;
}

describe('names of a content', () => {
  it('are those that point to it, until they point elsewhere or go', () => {
    const registry = new AdapterRegistry();
    registry.put(entry('a', 'one'));
    registry.put(entry('b', 'one'));
    registry.put(entry('c', 'two'));
    registry.put(entry('d', 'one', 'other engine'));
    assert.deepEqual(registry.namesOf('engine', 'one'), ['a', 'b']);
    registry.put(entry('a', 'two'));
    assert.deepEqual(registry.namesOf('engine', 'one'), ['b']);
    assert.deepEqual(registry.namesOf('engine', 'two').sort(), ['a', 'c']);
    registry.remove('b');
    assert.deepEqual(registry.namesOf('engine', 'one'), []);
    assert.deepEqual(registry.namesOf('other engine', 'one'), ['d']);
  });

  it('know of a digest when it becomes known, and not of one that is read too late', () => {
    const registry = new AdapterRegistry();
    const [unread, gone] = [entry('a', ''), entry('b', '')];
    registry.put(unread);
    registry.put(gone);
    assert.deepEqual(registry.namesOf('engine', 'one'), []);
    registry.remove('b');
    for (const one of [unread, gone]) {
      one.summary = { digest: 'one' } as AdapterEntry['summary'];
      registry.noteContent(one);
    }
    assert.deepEqual(registry.namesOf('engine', 'one'), ['a']);
  });

  it('are those of versions, too, that only aliases lead to', () => {
    const registry = new AdapterRegistry();
    registry.put(entry('a', 'two'));
    const target = { adapter: 'a', digest: 'one', share: 1 };
    registry.putAlias({ name: 'old', targets: [target], createdAt: 0, updatedAt: 0, revision: 0 });
    registry.hold('a', 'one', () => entry('a', 'one'));
    assert.deepEqual(registry.namesOf('engine', 'one'), ['a']);
    registry.removeAlias('old');
    registry.dropUnused();
    assert.deepEqual(registry.namesOf('engine', 'one'), []);
  });
});
