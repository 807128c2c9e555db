/// What is shown of a run, a study and an inspected model: sentences, tables for the terminal, and
/// a page with figures. [LayerFigures] has what all of them show of layers.
package dev.sluice.pages;
