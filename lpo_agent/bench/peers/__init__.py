"""Other optimizers as arms of a benchmark: what is the same for them and for ours, and what is not.

Each search of a peer is a process of its own. All of its model calls go to an HTTP server of ours on the loopback
interface (:mod:`~lpo_agent.bench.peers.endpoint`), which passes them to the models of the benchmark.

The same for all arms: the task model and the optimizer model, the seed prompt, the rows of train and dev, the metric,
the number of search calls, and the test. Every answered request counts as one call, whichever model it is for, and also
if its answer comes from the journal. At the first request beyond the cap the process is ended, and the best prompt that
it had reported is its result. So no peer can overshoot, and none needs to know what an earlier search has paid for. A
peer that ends by itself keeps the calls that it did not use. The rows of test are not in the job of the process.

Settings of a peer are its package's defaults, with two exceptions: its own limit of calls is set to the cap, and its
random seed to that of the cell.

Not the same is the frame around the text that a peer works on, because each package has its own:

* ``gepa`` works on the seed prompt with its placeholders, and items are answered as ours are. A new prompt without
  a placeholder gets the item after a blank line. GEPA's own adapter would send the prompt as the system message.
* ``capo`` works on the seed prompt without its placeholders. Items come after its prompt, as in its package, and
  its result is such a template. The reply is judged as it is: the markers around an answer, which its package asks for
  by default, would count as wrong here. Its first population is the seed prompt, and prompts that its package
  makes from it with the optimizer model. It gets the rows of train and of dev as one.
* ``dspy-mipro`` and ``dspy-gepa`` work on a ``dspy.Predict`` whose instructions are the seed prompt without its
  placeholders. DSPy writes the request in its own form and reads the answer from it, in the search and in the test.
  That form needs more tokens than the answer alone, so the limit of an answer is raised by 128. For the test, a second
  process gets the inputs of the test rows, without the targets, and returns the answers, which are judged here. An
  item for which the program fails to give an answer counts as an empty answer.

The seed prompt is scored once, in the frame of ours.
"""
