"""``rlhf demo``: the whole loop on the sandbox, from a base to a policy that people prefer.

Base, SFT on a mixed staff, comparisons that a panel votes on through the running labelling server,
reward, DPO and PPO, and all of them side by side, judged by a gold score that no stage has seen.
"""
