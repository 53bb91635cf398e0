// Loaded into a server before anything else: the kernel lists a graphics card, so that `--device auto` looks for a device.
import fs from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';

const { readdirSync } = fs;
fs.readdirSync = (place, ...more) =>
  String(place) === '/sys/class/drm' ? ['renderD128'] : readdirSync(place, ...more);
syncBuiltinESMExports();
