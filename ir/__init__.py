"""The representations: model graph, hardware, mapped program, result.

Plain dataclasses with verifiers, text forms and parsers. Nothing here knows how they are
made (frontend, passes) or what they cost (backend).
"""
