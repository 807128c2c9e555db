/// Runs and studies while they train, as a page that a server on this machine keeps up to date.
@NullMarked
package dev.sluice.watch;

import org.jspecify.annotations.NullMarked;
