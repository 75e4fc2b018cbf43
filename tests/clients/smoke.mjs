// The npm package etcd3 against one server: put, get, delete, if-then-else, lease, watch, lock,
// election. Usage: node smoke.mjs PACKAGE_FOLDER ADDRESS. Ends with `ok`.

import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { once } from 'node:events';

const [packageFolder, address] = process.argv.slice(2);
const { Etcd3, EtcdLockFailedError } = createRequire(import.meta.url)(packageFolder);
const client = new Etcd3({ hosts: `http://${address}` });

await client.put('/js/a').value('1');
assert.equal(await client.get('/js/a').string(), '1');
assert.equal(await client.get('/js/none').string(), null);
await client.put('/js/b').value(Buffer.from([0, 255]));
assert.deepEqual(await client.get('/js/b').buffer(), Buffer.from([0, 255]));
assert.deepEqual(await client.getAll().prefix('/js/').keys(), ['/js/a', '/js/b']);
assert.equal(await client.getAll().prefix('/js/').count(), 2);
const limited = await client.getAll().prefix('/js/').sort('Key', 'Descend').limit(1).keys();
assert.deepEqual(limited, ['/js/b']);
const deleted = await client.delete().key('/js/b').getPrevious();
assert.equal(deleted.length, 1);

const swap = () =>
  client
    .if('/js/a', 'Value', '==', '1')
    .then(client.put('/js/a').value('2'))
    .else(client.get('/js/a'))
    .commit();
assert.equal((await swap()).succeeded, true);
assert.equal((await swap()).succeeded, false);
await assert.rejects(async () => client.put('').value('x').exec(), /key is not provided/);

const lease = client.lease(60);
const id = await lease.grant();
await lease.put('/js/leased').value('1');
const times = await client.leaseClient.leaseTimeToLive({ ID: id, keys: true });
assert.equal(times.grantedTTL, '60');
assert.deepEqual(times.keys.map(String), ['/js/leased']);
assert.equal((await lease.keepaliveOnce()).TTL, '60');
await lease.revoke();
assert.equal(await client.get('/js/leased').string(), null);

const watcher = await client.watch().prefix('/js/watched/').create();
const put = once(watcher, 'put');
await client.put('/js/watched/k').value('1');
assert.equal((await put)[0].value.toString(), '1');
const gone = once(watcher, 'delete');
await client.delete().key('/js/watched/k');
assert.equal((await gone)[0].key.toString(), '/js/watched/k');
await watcher.cancel();

const lock = await client.lock('js-lock').ttl(30).acquire();
await assert.rejects(client.lock('js-lock').ttl(30).acquire(), EtcdLockFailedError);
await lock.release();
await client.lock('js-lock').do(async () => {});

const campaign = client.election('js-election', 30).campaign('me');
await once(campaign, 'elected');
assert.equal(await client.election('js-election').leader(), 'me');
await campaign.resign();

client.close();
console.log('ok');
