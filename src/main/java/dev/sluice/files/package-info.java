/// Files and directories as everything above uses them: read only what is a regular file of a
/// possible size, written whole or not at all, never through a link, by one owner at a time. What a
/// parser has against a file becomes a sentence here and nowhere else.
package dev.sluice.files;
