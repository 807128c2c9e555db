/// Training: what a step does, what it leaves on disk, how it goes on after a stop.
package dev.sluice.training;
