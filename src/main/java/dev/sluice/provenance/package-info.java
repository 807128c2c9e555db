/// Where a result comes from. A run without a [dev.sluice.provenance.RunManifest] cannot be
/// repeated, so every run directory and every checkpoint carries one.
package dev.sluice.provenance;
