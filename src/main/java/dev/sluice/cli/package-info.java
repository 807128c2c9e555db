/// The command line: one class a command. The only package that prints, exits and reads the
/// environment.
package dev.sluice.cli;
