/// How good a model is, and whether it is the model it should be.
package dev.sluice.evaluation;
