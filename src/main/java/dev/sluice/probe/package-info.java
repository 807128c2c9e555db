/// What a forward pass lets you watch.
package dev.sluice.probe;
